/** What a slab must write, counted on a plain array of row ids. Too simple to be wrong. */
export interface ExpectedUpdate {
  added: number;
  removed: number;
  active: number;
  writes: number;
  minimum: number;
}

export class SlotsTwin {
  /** Row by slot. */
  private slots: number[] = [];

  /** Takes the next set of rows, ascending. */
  update(rows: readonly number[], strategy: 'paired' | 'repack'): ExpectedUpdate {
    const wanted = new Set(rows);
    const old = new Set(this.slots);
    const stay = this.slots.slice(0, rows.length).map((row) => (wanted.has(row) ? row : null));
    while (stay.length < rows.length) stay.push(null);
    const settled = new Set(stay);
    const incoming = [
      ...rows.filter((row) => !old.has(row)),
      ...this.slots.filter((row) => wanted.has(row) && !settled.has(row)),
    ];
    const minimum = incoming.length;
    const tight = stay.map((row) => row ?? (incoming.shift() as number));
    const counts = {
      added: rows.filter((row) => !old.has(row)).length,
      removed: this.slots.filter((row) => !wanted.has(row)).length,
      active: rows.length,
      writes: strategy === 'repack' ? rows.length : minimum,
      minimum,
    };
    this.slots = strategy === 'repack' ? [...rows] : tight;
    return counts;
  }
}
