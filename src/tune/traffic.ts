import type { RowStorage } from '../gpu/storage.js';
import { contentOf } from '../gpu/texels.js';
import type { RecordedDispatch } from './recording.js';

/** What a layer's dispatches had to do with at the recorded step. */
export interface LayerTraffic {
  /** Rows of the layer's pool, slots of its slab. */
  readonly rows: number;
  readonly capacity: number;
  /** Rows that were active. */
  readonly active: number;
  /** Bytes that the step's update of the slab read and wrote, and how many rows it wrote. */
  readonly moved: number;
  readonly written: number;
  /** Bytes of keys and values up to this token. */
  readonly cache: number;
}

/** Buffers of the layers of a model say in their labels whose they are; those of one MLP are all of layer 0. */
export function layerOf({ bound }: RecordedDispatch): number {
  for (const binding of bound?.buffers.values() ?? []) {
    const [, layer] = /\blayers?[ .](\d+)\b/.exec(labelOf(binding)) ?? [];
    if (layer) return Number(layer);
  }
  return 0;
}

/** The kernel, and the matrix that it reads where it reads one: `linear qkv`, `gate_up_active gate_proj`. */
export function nameOf({ bound, pipeline }: RecordedDispatch): string {
  if (!bound) return pipeline.label || 'unknown';
  const { name } = bound.kernel;
  const weights = bound.buffers.get('weights') ?? bound.buffers.get('qkv_weights');
  const matrix = labelOf(weights)
    .replace(/^pairslab (model\.)?/, '')
    .replace(/^layers?[ .]\d+[ .]/, '')
    .replace(/ \d+$/, '')
    .replace(/ weight$/, '')
    .replace(/^(self_attn\.|mlp[. ])/, '');
  if (!matrix || matrix === name) return name;
  // A head that is tied to the embedding.
  const tied = (name === 'linear' || name === 'logits') && matrix === 'embedding';
  return `${name} ${tied ? 'head' : matrix}`;
}

/**
 * The bytes that each dispatch must move at the least, null for those of kernels from elsewhere:
 * - over a matrix: its weights, and of those that only active rows are read of, their share. Neither the vectors nor the
 *   biases, which are smaller by three orders.
 * - row copies: what is read and what is written, the dispatches of a layer taking equal parts.
 * - attention: keys and values up to this token, once; and the projections, where it does them on the way.
 * - the rest (embed, norms, lists, sums): every storage buffer bound, once; of the embedding no more than a row.
 * Sizes are those of buffers, so that each dtype counts as it is stored.
 */
export function leastBytes(
  recorded: readonly RecordedDispatch[],
  layers: readonly LayerTraffic[],
): (number | null)[] {
  const copies = layers.map((_, l) => recorded.filter((one) => isCopy(one) && layerOf(one) === l).length);
  return recorded.map((dispatch) => {
    if (!dispatch.bound) return null;
    const { kernel, buffers } = dispatch.bound;
    const l = layerOf(dispatch);
    const layer = layers[l];
    const size = (name: string): number => sizeOf(buffers.get(name));
    if (isCopy(dispatch)) return layer ? layer.moved / copies[l] : null;
    // Of the cache it writes one token's part, which is as large as what it reads.
    if (kernel.name === 'rope') return 2 * size('qkv');
    if (buffers.has('keys')) return layer ? layer.cache + size('qkv_weights') + size('out_weights') : null;
    // Looks its rows up: what it reads of the table is as large as what it writes, in f32.
    if (buffers.has('tokens')) return 2 * size('x') + size('scaled') + size('next_norm');
    if (!buffers.has('weights')) {
      return [...buffers.values()].reduce((sum, binding) => sum + sizeOf(binding), 0);
    }
    // A predictor's codes are read whole; of the gate at the least what turns out to be active.
    const part = buffers.has('codes') ? activeShare(layer) : share(kernel.slots.rows, layer);
    const listed = size('up_weights') + size('down_weights');
    return size('weights') * part + listed * activeShare(layer) + size('codes');
  });
}

function isCopy({ bound }: RecordedDispatch): boolean {
  return bound?.kernel.name === 'copy_rows' || bound?.kernel.name === 'index_select';
}

/** By how a kernel reaches its rows: all of them, those of a list, or the first slots of a slab. */
function share(rows: string | undefined, layer: LayerTraffic | undefined): number {
  if (rows === 'indexed' || rows === 'segments') return activeShare(layer);
  // Rows that arrive are read with the others, and written.
  if (rows === 'arriving' && layer) return (layer.active + layer.written) / layer.capacity;
  return rows === 'packed' && layer ? layer.active / layer.capacity : 1;
}

const activeShare = (layer: LayerTraffic | undefined): number => (layer ? layer.active / layer.rows : 1);

type Memory = GPUBufferBinding | GPUTexture | undefined;

/** What the rows of a dispatch are read from: a texture where it has one. */
export function storageOf({ bound }: RecordedDispatch): RowStorage {
  return [...(bound?.buffers.values() ?? [])].some((memory) => 'createView' in memory) ? 'texture' : 'buffer';
}

const labelOf = (memory: Memory): string =>
  memory ? ('createView' in memory ? memory : memory.buffer).label : '';

const sizeOf = (memory: Memory): number => {
  if (!memory) return 0;
  if ('createView' in memory) return contentOf(memory);
  return memory.size ?? memory.buffer.size - (memory.offset ?? 0);
};
