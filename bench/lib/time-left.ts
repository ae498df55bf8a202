/** A case that ends sooner was not measured: an earlier run had kept it, or it was skipped. */
const LEAST_MS = 20;

/** How long a suite will go on, by what its cases took so far. */
export class TimeLeft {
  private done = 0;
  private total = 0;
  private since = 0;
  private sum = 0;
  private measured = 0;

  /**
   * Takes note that `done` of `total` cases are over at `now`, in ms of any clock. Fewer cases than before, or another
   * total, are another part, which starts anew.
   */
  at(done: number, total: number, now: number): void {
    if (done < this.done || total !== this.total) [this.sum, this.measured] = [0, 0];
    else if (done > this.done && now - this.since >= LEAST_MS) {
      this.sum += now - this.since;
      this.measured += done - this.done;
    }
    if (done !== this.done || total !== this.total) this.since = now;
    [this.done, this.total] = [done, total];
  }

  /** What is left at `now`, in ms, as if the cases to come took as long as those that were measured; null before the first. */
  left(now: number): number | null {
    const { done, total, since, sum, measured } = this;
    if (measured === 0) return null;
    const each = sum / measured;
    return Math.max(0, each - (now - since)) + each * (total - done - 1);
  }
}

/** As a person would say it: 40 s, 12 min, 3.5 h. */
export function spoken(ms: number): string {
  const seconds = ms / 1000;
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
