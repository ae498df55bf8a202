/**
 * Says when something may be drawn while text is made, so that drawing never takes more than a share of the time. Decoding
 * earns time, drawing spends it: over any stretch of time all frames together cost at most the share of what was decoded
 * in it, and the most that can be saved up.
 */
export class Governor {
  private readonly share: number;
  /** What may be spent now, ms. */
  private credit = 0;
  /** What a frame costs, ms: the last ones, the dearest weighing most. */
  private cost: number;
  /** What a token takes without a frame before it, ms. */
  private plain: number | null = null;
  private spent = 0;
  private decoding = 0;

  /** `share`: of the time, in (0, 1). `firstCost`: of a frame that was not measured yet, ms. */
  constructor(share = 0.04, firstCost = 50) {
    this.share = share;
    this.cost = firstCost;
  }

  /** Whether the time that was earned pays for a frame. */
  get due(): boolean {
    return this.credit >= this.cost;
  }

  /** What the next frame is expected to cost, ms. */
  get frameMs(): number {
    return this.cost;
  }

  /** What all frames took, of the time without them. */
  get taken(): number {
    return this.decoding > 0 ? this.spent / this.decoding : 0;
  }

  /** A frame took so long, until the device had done it. */
  drawn(ms: number): void {
    this.credit -= ms;
    this.spent += ms;
    this.cost = Math.max(ms, 0.8 * this.cost + 0.2 * ms);
  }

  /**
   * So many tokens were decoded in so long. What they took longer than others, where a frame was drawn right before, is
   * charged to the frame: a browser puts it on the screen while they run.
   */
  decoded(ms: number, tokens: number, afterFrame: boolean): void {
    const each = ms / tokens;
    if (!afterFrame) this.plain = this.plain === null ? each : 0.9 * this.plain + 0.1 * each;
    const late = afterFrame && this.plain !== null ? Math.max(0, each - this.plain) * tokens : 0;
    this.credit += this.share * (ms - late) - late;
    this.spent += late;
    this.decoding += ms - late;
    // Saved up for one frame at most, so that a pause is not followed by a burst.
    this.credit = Math.min(this.credit, this.cost);
  }
}
