import { ShapeError } from '../errors.js';
import { type Traits, traitsOf } from '../gpu/traits.js';
import { tuned, type TunedFor } from '../gpu/tuning.js';
import { headQuads } from './kernels.js';

/** Under which name attention is tuned. */
export const ATTENTION_KERNEL = 'attention';

/** The heads of a model. */
export interface HeadShape {
  readonly heads: number;
  /** A divisor of `heads`: so many heads share keys and values. */
  readonly kvHeads: number;
  readonly headDim: number;
}

/** How attention is cut up. */
export interface AttentionVariant {
  /** A row of lanes scores positions together (`subgroup`), or each lane has positions of its own (`tiles`). */
  readonly walk: 'subgroup' | 'tiles';
  /** Heads of a workgroup, which read their keys and values once. */
  readonly heads: 1 | 2 | 3 | 4;
  /** Spans that the positions are cut into, each a workgroup; from two on a second pass puts them together. */
  readonly spans: number;
  /** A single token: whether attention turns it and writes it to the cache itself, or `rope` does before. */
  readonly rope: 'fused' | 'apart';
  readonly WORKGROUP: number;
  /** Of `tiles`: positions between two barriers. */
  readonly TILE: number;
}

/** Positions of a span at least, and spans of a head at most, of a GPU's default. */
const GPU_SPAN = 128;
const GPU_SPANS = 32;
/** Lanes of a workgroup that WebGPU promises. */
const MOST_LANES = 256;
/** Quads of a head that a lane can have. */
const MOST_QUADS = 8;

/**
 * The variants of attention that can run on a device, over about `positions` positions; the first is the default. A batch
 * has workgroups enough without spans, and its keys in the cache before any of it reads them.
 *
 * Measured (lavapipe of Mesa 25.0 and SwiftShader; 4/2 and 32/8 heads of 64; 128 and 1024 positions): only loads count,
 * so that heads that share theirs take half the time (two) or a third (four); rows of lanes that score together take two
 * thirds of the time of lanes that score alone; and a workgroup of one subgroup is the fastest.
 * @throws ShapeError for heads that are too large for any.
 */
export function attentionVariants(
  traits: Traits,
  shape: HeadShape,
  positions: number,
  batched: boolean,
): AttentionVariant[] {
  const { software, subgroup } = traits;
  const group = shape.heads / shape.kvHeads;
  const shared = ([4, 3, 2, 1] as const).filter((heads) => group % heads === 0);
  const tile = (WORKGROUP: number) =>
    ({ walk: 'tiles', heads: 1, WORKGROUP, TILE: software ? 256 : 2 * WORKGROUP }) as const;
  const rows = (heads: AttentionVariant['heads'], WORKGROUP: number) =>
    ({ walk: 'subgroup', heads, WORKGROUP, TILE: 4 }) as const;
  const widest = Math.max(8, subgroup);
  const tiles = software ? [tile(8), tile(16)] : [tile(64), tile(128)];
  const together = software
    ? [rows(shared[0], subgroup), rows(shared[0], 2 * subgroup)]
    : [...shared.map((heads) => rows(heads, 2 * widest)), rows(shared[0], 8 * widest), tile(64)];
  const cuts = subgroup >= 4 ? together : tiles;
  // For heads that a narrow workgroup has no room for.
  const wide = tile(MOST_LANES);
  const fitting = [...cuts, wide].filter(
    (cut) => (subgroup >= 4 || cut.walk === 'tiles') && quadsOfLane(traits, shape, cut) <= MOST_QUADS,
  );
  const usual = fitting.length > 1 ? fitting.filter((cut) => cut !== wide) : fitting;
  if (usual.length === 0) {
    const { headDim } = shape;
    throw new ShapeError(
      `no variant of attention covers heads of ${headDim} dimensions; at most ${4 * MOST_LANES * MOST_QUADS}.`,
      { headDim },
    );
  }
  const ropes = batched ? (['apart'] as const) : (['fused', 'apart'] as const);
  return spansOf(traits, positions, batched).flatMap((spans) => [
    ...usual.map((cut) => ({ ...cut, spans, rope: ropes[0] })),
    ...ropes.slice(1).map((rope) => ({ ...usual[0], spans, rope })),
  ]);
}

/**
 * One span a head is the default where a CPU plays the GPU and each head already has a core, and where there are too few
 * positions for more.
 */
function spansOf({ software }: Traits, positions: number, batched: boolean): number[] {
  if (batched) return [1];
  const most = Math.max(1, Math.min(GPU_SPANS, 2 ** Math.floor(Math.log2(positions / GPU_SPAN))));
  return [...new Set(software ? [1, Math.min(4, most)] : [most, 1, Math.ceil(most / 4)])];
}

/** Lanes side by side on the quads of a head: a power of two, and of one subgroup where they score together. */
function lanesOf(
  { subgroup }: Traits,
  { headDim }: HeadShape,
  cut: Pick<AttentionVariant, 'walk' | 'WORKGROUP'>,
): number {
  const most = cut.walk === 'subgroup' ? Math.min(subgroup, cut.WORKGROUP) : cut.WORKGROUP;
  return Math.min(most, 2 ** Math.ceil(Math.log2(headQuads(headDim))));
}

/** How many quads of a head a lane has: a power of two. */
function quadsOfLane(
  traits: Traits,
  shape: HeadShape,
  cut: Pick<AttentionVariant, 'walk' | 'WORKGROUP'>,
): number {
  return 2 ** Math.ceil(Math.log2(headQuads(shape.headDim) / lanesOf(traits, shape, cut)));
}

/** What the kernel `attention` takes of a variant, besides where the token comes from. */
export function attentionChoice(traits: Traits, shape: HeadShape, variant: AttentionVariant) {
  const { walk, heads, spans, WORKGROUP, TILE } = variant;
  const quads = String(quadsOfLane(traits, shape, variant));
  return {
    slots: { walk, heads: String(heads), quads, lane: quads, finish: spans > 1 ? 'span' : 'head' },
    constants: {
      WORKGROUP,
      TILE,
      HEAD_QUADS: headQuads(shape.headDim),
      LANES: lanesOf(traits, shape, variant),
    },
  };
}

/** Attention is filed under the values of the keys that a head looks at. */
export function attentionTunedFor(
  headDim: number,
  positions: number,
  batched: boolean,
): TunedFor & { kernel: 'attention' } {
  return { kernel: ATTENTION_KERNEL, dtype: 'f32', batched, cols: headDim * positions };
}

/** The tuned variant for about so many positions, else the default. */
export function attentionVariant(
  device: GPUDevice,
  shape: HeadShape,
  positions: number,
  batched: boolean,
): AttentionVariant {
  const variants = attentionVariants(traitsOf(device), shape, positions, batched);
  return tuned(device, attentionTunedFor(shape.headDim, positions, batched), variants) ?? variants[0];
}
