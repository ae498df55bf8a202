/** Random inputs. */
import { randomSource } from '../support/make-model.js';

export const source = randomSource;

/** f32 values in [-1, 1). */
export function randomValues(random: () => number, length: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length }, () => 2 * random() - 1);
}

/** u32 words of any bits. */
export function randomWords(random: () => number, length: number): Uint32Array<ArrayBuffer> {
  return Uint32Array.from({ length }, () => Math.floor(random() * 2 ** 32));
}

/** `count` different numbers below `limit`, in no order. */
export function randomIds(random: () => number, count: number, limit: number): number[] {
  const ids = Array.from({ length: limit }, (_, i) => i);
  for (let i = 0; i < count; i++) {
    const j = i + Math.floor(random() * (limit - i));
    [ids[i], ids[j]] = [ids[j], ids[i]];
  }
  return ids.slice(0, count);
}

/** Skips a subgroup variant, with the reason, where the device has no subgroups. */
export function checkTeam(
  team: string,
  ctx: { has(feature: string): boolean; adapter: { name: string } },
  skip: (reason: string) => void,
): void {
  if (team === 'subgroup' && !ctx.has('subgroups')) skip(`${ctx.adapter.name} has no subgroups`);
}

interface Cut {
  readonly team: string;
  readonly BATCH_TILE: number;
  readonly ROWS: number;
  readonly WORKGROUP: number;
  readonly m: number;
  readonly K: number;
  readonly batch: number;
  readonly fold: number;
}

/**
 * Keeps tiles of 8 to a few cases: lavapipe takes seconds to compile one, and with a barrier for each step of each of
 * the eight sums 5 to 20 s, so that a team of a workgroup has them only in `tiledWorkgroup`.
 */
export function cheap({ team, BATCH_TILE, ROWS, m, K, batch, fold }: Cut): boolean {
  const plain = (ROWS === 4 || ROWS === 16) && m >= 40 && (K === 20 || K === 77) && batch > 1 && fold === 1;
  return BATCH_TILE === 1 || (team !== 'workgroup' && plain);
}

/** The one case of tiles of 8 with a team of a workgroup, made of another. */
export function tiledWorkgroup<C extends Cut>(one: C): C {
  return { ...one, team: 'workgroup', BATCH_TILE: 8, WORKGROUP: 16, ROWS: 4, K: 77, batch: 9 };
}
