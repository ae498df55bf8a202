/** Random inputs. */
import { traitsOf } from '../../src/gpu/traits.js';
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

/** Skips a subgroup variant, with the reason, where the device has no subgroups, or too small ones. */
export function checkTeam(
  team: string,
  ctx: { has(feature: string): boolean; adapter: { name: string }; device: GPUDevice },
  skip: (reason: string) => void,
): void {
  const { subgroup } = traitsOf(ctx.device);
  if (team === 'shared' && subgroup < 8)
    skip(`${ctx.adapter.name} has subgroups of ${subgroup}, not 8 or more`);
  if (team === 'subgroup' && !ctx.has('subgroups')) skip(`${ctx.adapter.name} has no subgroups`);
}

/** Skips a case in f16 arithmetic, with the reason, where the device has none. */
export function checkF16(
  compute: string,
  ctx: { has(feature: string): boolean; adapter: { name: string } },
  skip: (reason: string) => void,
): void {
  if (compute === 'f16' && !ctx.has('shader-f16')) skip(`${ctx.adapter.name} has no shader-f16`);
}

/** Skips a case of weights widened by shifts, with the reason, where the device cannot. */
export function checkWidth(
  width: string,
  ctx: { adapter: { name: string }; device: GPUDevice },
  skip: (reason: string) => void,
): void {
  if (width === 'shifted' && !traitsOf(ctx.device).subnormals)
    skip(`${ctx.adapter.name} flushes small f32 to zero`);
}

/** The constant OCTETS: where subgroups have eight lanes, no more and no fewer, in every other case. */
export const octets = (device: GPUDevice, seed: number): number =>
  traitsOf(device).octets && seed % 2 === 1 ? 1 : 0;

/** The choice of slot x. */
export const xSlot = (x: string, STAGED: number): string => (STAGED === 1 ? `${x}_staged` : x);

/** x goes to the workgroup's memory for one token, in tiles of rows. */
export const nears = ({ STAGED, tile, batch = 1 }: { STAGED: number; tile: string; batch?: number }) =>
  STAGED === 0 || (batch === 1 && tile.endsWith('x1'));

/** Words are for q8 and q4 alone, shifts for f16 that is multiplied in f32. */
export function fits(width: string, weights: string, compute = 'f32'): boolean {
  if (width === 'shifted') return weights === 'f16' && compute === 'f32';
  return width === 'vector' || weights === 'q8' || weights === 'q4';
}

interface Cut {
  readonly compute: string;
  readonly team: string;
  readonly weights: string;
  readonly tile: string;
  readonly width: string;
  readonly ROWS: number;
  readonly WORKGROUP: number;
  readonly m: number;
  readonly K: number;
  readonly batch: number;
  readonly fold: number;
  readonly UNROLL?: number;
  readonly STAGED?: number;
}

/**
 * Cuts that there are: whole tiles of rows, words for q8 and q4 alone, f16 arithmetic for f16 alone. And keeps batched tiles to a few cases: software
 * adapters take a second or more to compile one (vectors of q8 and q4 many), and with a barrier for each step of each of
 * the sums 5 to 20 s, so that a team of a workgroup has them only in `tiledWorkgroup`.
 */
export function cheap({
  compute,
  weights,
  team,
  tile,
  width,
  ROWS,
  m,
  K,
  batch,
  fold,
  UNROLL,
}: Cut): boolean {
  const quantized = weights === 'q8' || weights === 'q4';
  // Made for each other: sharedTiles.
  if (team === 'shared' || tile === '4x8') return false;
  if (compute === 'f16' && weights !== 'f16') return false;
  if (ROWS % Number(tile[0]) !== 0 || !fits(width, weights, compute)) return false;
  if (tile.endsWith('x1')) return true;
  // Unrolling is for single tokens.
  if (UNROLL !== undefined && UNROLL > 1) return false;
  if (quantized && width === 'vector') return false;
  const plain = (ROWS === 4 || ROWS === 16) && m >= 40 && (K === 20 || K === 77) && batch > 1 && fold === 1;
  return team !== 'workgroup' && plain;
}

/** Cases of the tile that is made for lanes that share x, four rows a lane; one a dtype, made of another. */
export function sharedTiles<C extends Cut>(one: C, change: Partial<NoInfer<C>> = {}): C[] {
  return (['f32', 'f16', 'bf16', 'q8', 'q4'] as const).map((weights, i) => ({
    ...one,
    ...change,
    compute: 'f32',
    weights,
    width: weights === 'q8' || weights === 'q4' ? 'word' : 'vector',
    team: 'shared',
    tile: '4x8',
    WORKGROUP: 16,
    ROWS: 64,
    STAGED: 0,
    // Five quads of f32 end in the middle of an octet.
    K: weights === 'f32' ? 20 : 77,
    batch: i % 2 === 0 ? 9 : 3,
  }));
}

/** The one batched case with a team of a workgroup, made of another. */
export function tiledWorkgroup<C extends Cut>(one: C): C {
  return {
    ...one,
    compute: 'f32',
    weights: 'f32',
    width: 'vector',
    team: 'workgroup',
    tile: '1x8',
    STAGED: 0,
    WORKGROUP: 16,
    ROWS: 4,
    K: 77,
    batch: 9,
  };
}
