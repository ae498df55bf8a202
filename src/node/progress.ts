/** Nothing is shown for what ends within this. */
const PATIENCE_MS = 2000;
const INTERVAL_MS = { terminal: 100, file: 5000 };

/**
 * A line on stderr for work that takes longer than two seconds: rewritten in place on a terminal, a line now and then
 * otherwise.
 */
export class Progress {
  private readonly label: string;
  private readonly started = performance.now();
  private shownAt = 0;
  private open = false;

  constructor(label: string) {
    this.label = label;
  }

  update(done: number, total: number, note = ''): void {
    const now = performance.now();
    const tty = process.stderr.isTTY;
    if (now - this.started < PATIENCE_MS) return;
    if (now - this.shownAt < (tty ? INTERVAL_MS.terminal : INTERVAL_MS.file)) return;
    this.shownAt = now;
    const line = `${this.label}: ${done}/${total} ${note}`.trimEnd();
    process.stderr.write(tty ? `\r\x1b[K${line.slice(0, (process.stderr.columns ?? 80) - 1)}` : `${line}\n`);
    this.open = Boolean(tty);
  }

  end(): void {
    if (this.open) process.stderr.write('\r\x1b[K');
    this.open = false;
  }
}
