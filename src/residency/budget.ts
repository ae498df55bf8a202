import { OptionError } from '../errors.js';

/** GPU memory that a model's slabs may take: bytes, or a share of all rows' bytes. */
export type Budget = { readonly bytes: number } | { readonly share: number };

/** What the slabs of a model hold: the layers' rows, all of one size. */
export interface RowSet {
  readonly layers: number;
  /** N, of each layer. */
  readonly rows: number;
  readonly rowBytes: number;
}

const UNITS: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
};

/**
 * A budget as a person writes it: `25%`, `512MB`, `1.5 GiB`, or a number of bytes. kB, MB, GB are powers of 1000, KiB,
 * MiB, GiB of 1024; case does not matter.
 *
 * @throws OptionError for anything else, 0, and more than 100%.
 */
export function parseBudget(text: string | number): Budget {
  const [, digits, unit] = /^(\d+\.?\d*|\.\d+)\s*(%|[a-z]*)$/i.exec(String(text).trim()) ?? [];
  const value = Number(digits);
  const factor = UNITS[unit?.toLowerCase() || 'b'];
  if (unit === '%' && value > 0 && value <= 100) return { share: value / 100 };
  const bytes = Math.floor(value * factor);
  if (unit !== '%' && bytes >= 1 && bytes <= Number.MAX_SAFE_INTEGER) return { bytes };
  throw new OptionError(
    `"${text}" is no budget: give a share above 0% and up to 100%, or bytes, such as 25%, 512MB or 1.5GiB`,
    { budget: text },
  );
}

/**
 * How many rows of all layers together a budget holds: at least one a layer and at most all there are.
 *
 * @throws OptionError when it does not hold a row of each layer; `details` has the bytes that would.
 */
export function budgetRows(budget: Budget, { layers, rows, rowBytes }: RowSet): number {
  const all = layers * rows;
  const held = 'share' in budget ? Math.floor(budget.share * all) : Math.floor(budget.bytes / rowBytes);
  if (held < layers) {
    const least = layers * rowBytes;
    throw new OptionError(
      `the budget holds ${held} rows of ${rowBytes} bytes, and each of ${layers} layers needs one: ` +
        `${least} bytes is the least`,
      { held, layers, rowBytes, least },
    );
  }
  return Math.min(held, all);
}

/** The same number of slots for every layer. @throws OptionError as `budgetRows`. */
export function splitEvenly(budget: Budget, set: RowSet): number[] {
  const slots = Math.floor(budgetRows(budget, set) / set.layers);
  return new Array<number>(set.layers).fill(slots);
}

/**
 * Slots where they were of most use: of all layers' rows those that were used most get one each, as far as the budget
 * goes, and a layer has as many slots as rows among them. `counts` is [layers][N] (see `useCounts`). Of equals the
 * lower layer and row. Each layer has at least `least` slots (default 1): enough for most of its steps, or they are
 * computed in pieces.
 *
 * @throws OptionError as `budgetRows`, when the counts are not of these layers and rows, or `least` is not possible.
 */
export function splitByUse(
  budget: Budget,
  set: RowSet,
  counts: readonly ArrayLike<number>[],
  least = 1,
): number[] {
  const { layers, rows } = set;
  const total = budgetRows(budget, set);
  if (counts.length !== layers || counts.some((layer) => layer.length !== rows)) {
    throw new OptionError(`the counts must be of ${layers} layers with ${rows} rows each`, { layers, rows });
  }
  if (!Number.isInteger(least) || least < 1 || least > rows || least * layers > total) {
    throw new OptionError(
      `at least ${least} slots for each of ${layers} layers is not possible with ${total} in all`,
      { least, layers, total },
    );
  }
  // Each layer's counts, the highest first: what its next slot would serve.
  const sorted = counts.map((layer) => Float64Array.from(layer).sort().reverse());
  const slots = new Array<number>(layers).fill(least);
  const ranked = sorted
    .flatMap((layer, l) => Array.from(layer.subarray(least), (count, i) => ({ l, count, i })))
    .sort((a, b) => b.count - a.count || a.l - b.l || a.i - b.i);
  for (const { l } of ranked.slice(0, total - least * layers)) slots[l]++;
  return slots;
}
