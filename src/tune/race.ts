import { shuffle, statsOf } from './stats.js';

/** One that is timed: each call gives a sample, in milliseconds. */
export type Contender = () => Promise<number>;

export interface RaceOptions {
  /** Samples of each contender a round. */
  repeats: number;
  /** Whether to stop where it is. */
  expired(): boolean;
}

export interface RaceResult {
  /** Of the contenders. */
  winner: number;
  /** The default's time over the winner's; 1 when the default won. */
  speedup: number;
  /** Median sample of the winner. */
  ms: number;
  /** The final was run to its end; otherwise the default stays. */
  decided: boolean;
}

/** What is slower than the best by this at first sight is not looked at again. */
const HOPELESS = 2;
/** The default is left only for what beats it by this, in this share of the final's pairs: less may be noise. */
const MARGIN = 1.05;
const SHARE = 0.75;

/**
 * Finds the fastest of `contenders`, of which the first is the default: rounds in shuffled order, after each of which
 * the slower half leaves, then a final of pairs between the default and the best of the others. Only the final decides,
 * since whoever was best among many was also lucky. `first` has one sample of each.
 */
export async function race(
  contenders: readonly Contender[],
  first: readonly number[],
  { repeats, expired }: RaceOptions,
): Promise<RaceResult> {
  const best = Math.min(...first);
  let others = [...contenders.keys()].filter((i) => i > 0 && first[i] <= HOPELESS * best);
  const stays = { winner: 0, speedup: 1, ms: first[0] };
  while (others.length > 1) {
    const samples = new Map(others.map((i) => [i, [] as number[]]));
    for (let r = 0; r < repeats; r++) {
      for (const i of shuffle([...others], Math.random)) {
        if (expired()) return { ...stays, decided: false };
        samples.get(i)?.push(await contenders[i]());
      }
    }
    // The least: what else the machine does only ever adds.
    const score = (i: number): number => Math.min(...(samples.get(i) as number[]));
    others = others.sort((a, b) => score(a) - score(b)).slice(0, Math.floor(others.length / 2));
  }
  if (others.length === 0) return { ...stays, decided: true };
  const [other] = others;
  const times = { mine: [] as number[], other: [] as number[] };
  for (let r = 0; r < Math.max(4, 2 * repeats); r++) {
    if (expired()) return { ...stays, decided: false };
    const pair = shuffle([0, other], Math.random);
    for (const i of pair) (i === 0 ? times.mine : times.other).push(await contenders[i]());
  }
  const ratios = times.mine.map((ms, r) => ms / times.other[r]);
  const speedup = statsOf(ratios).median;
  const wins = ratios.filter((ratio) => ratio > 1).length;
  return speedup > MARGIN && wins >= SHARE * ratios.length
    ? { winner: other, speedup, ms: statsOf(times.other).median, decided: true }
    : { winner: 0, speedup: 1, ms: statsOf(times.mine).median, decided: true };
}
