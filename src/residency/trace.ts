import { RowError, ShapeError, TraceError } from '../errors.js';
import { Bitmask } from '../mask/index.js';

/** One text that was fed token by token: `steps` steps of the trace, after those of the sequences before it. */
export interface TraceSequence {
  readonly name: string;
  readonly steps: number;
}

/** What the masks of a trace belong to. */
export interface TraceInfo {
  /** The model's name. */
  readonly model: string;
  /** How rows were left out: the session's mode. */
  readonly mode: string;
  /** How rows are stored, and the bytes of one row of all fields that a slab would hold. */
  readonly dtype: string;
  readonly rowBytes: number;
  /** N, of every layer. */
  readonly rows: number;
  readonly layers: number;
  readonly sequences: readonly TraceSequence[];
}

/** The masks of every layer at every decode step of a run, so that plans and policies can be tried without the model. */
export class Trace {
  readonly info: TraceInfo;
  /** Over all sequences. */
  readonly steps: number;
  /** [steps][layers][ceil(N / 32)] */
  readonly words: Uint32Array;

  /**
   * Takes `words` as they are, not as a copy.
   * @throws TraceError when a count is none, or the words are not as many as the counts say.
   */
  constructor(info: TraceInfo, words: Uint32Array) {
    checkInfo(info);
    this.info = info;
    this.steps = info.sequences.reduce((sum, { steps }) => sum + steps, 0);
    const expected = this.steps * info.layers * wordsPerMask(info.rows);
    if (words.length !== expected) {
      throw new TraceError(
        `${this.steps} steps of ${info.layers} masks of ${info.rows} rows are ${expected} words, not ${words.length}`,
        { expected, words: words.length },
      );
    }
    this.words = words;
  }

  /** A copy. @throws RowError when there is no such step or layer. */
  mask(step: number, layer: number): Bitmask {
    const { rows, layers } = this.info;
    checkIndex('step', step, this.steps);
    checkIndex('layer', layer, layers);
    const length = wordsPerMask(rows);
    const first = (step * layers + layer) * length;
    return Bitmask.fromWords(this.words.subarray(first, first + length), rows);
  }

  /** The masks of one layer, step by step. @throws RowError when there is no such layer. */
  layer(layer: number): Bitmask[] {
    checkIndex('layer', layer, this.info.layers);
    return Array.from({ length: this.steps }, (_, step) => this.mask(step, layer));
  }

  /**
   * The steps of some of its sequences, by their place in `info.sequences`: one part to measure frequencies on, say,
   * and another to try a policy.
   * @throws RowError when there is no such sequence.
   */
  sequences(first: number, end = this.info.sequences.length): Trace {
    const { sequences, layers, rows } = this.info;
    checkIndex('sequence', first, sequences.length);
    checkIndex('end', end, sequences.length + 1);
    const stepsBefore = (n: number) => sequences.slice(0, n).reduce((sum, { steps }) => sum + steps, 0);
    const perStep = layers * wordsPerMask(rows);
    return new Trace(
      { ...this.info, sequences: sequences.slice(first, end) },
      this.words.subarray(stepsBefore(first) * perStep, stepsBefore(end) * perStep),
    );
  }
}

/** Collects masks into a trace: `begin` a sequence, then every layer of a step in turn. */
export class TraceBuilder {
  private readonly info: Omit<TraceInfo, 'sequences'>;
  private readonly sequences: { name: string; masks: number }[] = [];
  private readonly masks: Bitmask[] = [];

  constructor(info: Omit<TraceInfo, 'sequences'>) {
    this.info = info;
  }

  begin(name: string): void {
    this.sequences.push({ name, masks: 0 });
  }

  /** @throws ShapeError when it is not the mask of the next layer, has another N, or no sequence has begun. */
  push(layer: number, mask: Bitmask): void {
    const { layers, rows } = this.info;
    const next = this.masks.length % layers;
    const sequence = this.sequences.at(-1);
    if (!sequence) throw new ShapeError('a mask came before any sequence; call begin first');
    if (layer !== next) {
      throw new ShapeError(`a mask of layer ${layer} came where layer ${next} is next`, { layer, next });
    }
    if (mask.size !== rows) {
      throw new ShapeError(`a mask of ${mask.size} rows came into a trace of ${rows}`, {
        mask: mask.size,
        rows,
      });
    }
    this.masks.push(mask.clone());
    sequence.masks++;
  }

  /** The trace so far. @throws ShapeError when a step is not complete. */
  build(): Trace {
    const { layers, rows } = this.info;
    const length = wordsPerMask(rows);
    const words = new Uint32Array(this.masks.length * length);
    for (const [i, mask] of this.masks.entries()) words.set(mask.words, i * length);
    const sequences = this.sequences.map(({ name, masks }) => {
      if (masks % layers !== 0) {
        throw new ShapeError(`sequence "${name}" ends with ${masks % layers} of ${layers} layers`);
      }
      return { name, steps: masks / layers };
    });
    return new Trace({ ...this.info, sequences }, words);
  }
}

export function wordsPerMask(rows: number): number {
  return Math.ceil(rows / 32);
}

/** More than any model has, and few enough that products of them stay exact. */
const LIMITS = { rows: 2 ** 31 - 1, layers: 2 ** 16, steps: 2 ** 31 - 1, rowBytes: 2 ** 31 - 1 };

/** @throws TraceError */
export function checkInfo({ rows, layers, rowBytes, sequences }: TraceInfo): void {
  const check = (what: string, value: number, least: number, most: number): void => {
    if (!Number.isInteger(value) || value < least || value > most) {
      throw new TraceError(`${what} is ${value}; it must be an integer from ${least} to ${most}`, {
        what,
        value,
      });
    }
  };
  check('the number of rows', rows, 1, LIMITS.rows);
  check('the number of layers', layers, 1, LIMITS.layers);
  check('the bytes of a row', rowBytes, 1, LIMITS.rowBytes);
  for (const { name, steps } of sequences) check(`the steps of "${name}"`, steps, 0, LIMITS.steps);
}

function checkIndex(what: string, index: number, count: number): void {
  if (!Number.isInteger(index) || index < 0 || index >= count) {
    throw new RowError(`${what} ${index} is not an integer from 0 to ${count - 1}`, { index, count });
  }
}
