import { gpuBytes } from '../../src/gpu/buffers.js';
import { STORED_DTYPES, type StoredDtype } from '../../src/gpu/layout.js';
import type { RowStorage } from '../../src/gpu/storage.js';
import { finished } from '../../src/gpu/readback.js';
import { openCheckpoint } from '../../src/llama/checkpoint.js';
import { LlamaSession } from '../../src/llama/session.js';
import { estimateBytes, loadWeights } from '../../src/llama/weights.js';
import { SHIPPED_MODEL } from '../../src/node/commands/start.js';
import { DiskFolder } from '../../src/node/model-folder.js';
import { type Arm, LayerBench } from '../lib/arms.js';
import {
  bareRowBytes,
  hostBytes,
  makeLayer,
  memoryShortage,
  type Shape,
  SHAPES,
  shapeOf,
} from '../lib/layers.js';
import { storageOf } from '../lib/storage.js';
import { MaskRing } from '../../src/tune/mask-ring.js';
import type { BenchContext, SuiteOutcome } from '../lib/report.js';
import { deviceTimer } from '../../src/tune/timer.js';

/** repack holds what paired holds. */
const ARMS: readonly Arm[] = ['dense', 'indexed', 'paired'];
/** Active rows in percent: what a slab has room for. */
const DENSITY = 10;
/** Each dtype has kernels to compile. */
const QUICK_DTYPES: readonly StoredDtype[] = ['f32', 'q8'];

interface LayerBytes {
  pool: number;
  slab: number;
  /** Activations, lists, masks, parameters. */
  scratch: number;
  total: number;
  /** What the process grew by: on a software adapter GPU memory is the process's own. */
  rss: number;
}

interface ModelBytes {
  estimate: Record<string, number>;
  /** Weights and the rotary table, as the loaded model counts them. */
  weights: number;
  /** Cache and activations, dense session. */
  session: number;
  gpu: number;
  rss: number;
}

/**
 * GPU bytes of a layer, by part, against the fewest that its weights could take; and what `estimateBytes` says of the
 * shipped model against what it takes. The process's resident bytes are beside them: on a software adapter they hold
 * the GPU's; what a garbage collector has not freed yet is among them, so they are an upper bound.
 */
export async function memorySuite(context: BenchContext): Promise<SuiteOutcome> {
  const { full, quick } = context;
  const shapes = full ? SHAPES : quick ? [shapeOf('smollm135m')] : [shapeOf('published'), shapeOf('llama1b')];
  const outcome: Required<SuiteOutcome> = { results: [], summary: {}, skipped: [] };
  const storage = storageOf(context);
  const dtypes = quick ? QUICK_DTYPES : STORED_DTYPES;
  const total = (shapes.length * ARMS.length + 1) * dtypes.length;
  let done = 0;
  for (const shape of shapes) {
    for (const dtype of dtypes) {
      for (const arm of ARMS) {
        const name = `${shape.name} ${dtype} ${arm}`;
        context.progress(done++, total, name);
        const reason = memoryShortage(hostBytes(shape, dtype, shape.rows / 10));
        if (reason) outcome.skipped.push({ case: name, reason });
        else {
          const bytes = await context.measured(name, () => measureLayer(context, shape, dtype, arm));
          reportLayer(shape, dtype, arm, name, { storage, ...bytes }, outcome);
        }
      }
    }
  }
  for (const dtype of dtypes) {
    context.progress(done++, total, `model ${dtype}`);
    const bytes = await context.measured(`model ${dtype}`, () => measureModel(context, dtype));
    const { rotary, cache, ...stored } = bytes.estimate;
    const estimated = Object.values(stored).reduce((sum, part) => sum + part, rotary);
    outcome.results.push({
      suite: 'memory',
      case: `model ${dtype}`,
      model: 'statesman',
      dtype,
      storage,
      ...bytes,
      estimatedWeights: estimated,
      estimatedCache: cache,
      actualOverEstimate: bytes.weights / estimated,
    });
    outcome.summary[`memory.model.${dtype}.actual_over_estimate`] = bytes.weights / estimated;
  }
  return outcome;
}

async function measureLayer(
  context: BenchContext,
  shape: Shape,
  dtype: StoredDtype,
  arm: Arm,
): Promise<LayerBytes> {
  const { device } = context.gpu;
  const before = process.memoryUsage.rss();
  const m = Math.round((shape.rows * DENSITY) / 100);
  // As many steps in flight as a user has by default.
  const mlp = await makeLayer(device, shape, dtype, m, { storage: storageOf(context), pendingUpdates: 4 });
  const timer = deviceTimer(device);
  const bench = new LayerBench(mlp, timer);
  const ring = new MaskRing({ n: shape.rows, m, change: Math.round(0.2 * m) }, 'random', m);
  await bench.deviceMs(arm, ring.take(2));
  const pool = mlp.pool.bytes;
  const slab = arm === 'paired' ? mlp.slab.bytes : 0;
  const total = mlp.bytes;
  const rss = process.memoryUsage.rss() - before;
  bench.destroy();
  mlp.destroy();
  timer.destroy();
  await finished(device);
  return { pool, slab, scratch: total - pool - slab, total, rss };
}

function reportLayer(
  shape: Shape,
  dtype: StoredDtype,
  arm: Arm,
  name: string,
  bytes: LayerBytes & { storage: RowStorage },
  { results, summary }: Required<SuiteOutcome>,
): void {
  const row = bareRowBytes(shape, dtype);
  const m = Math.round((shape.rows * DENSITY) / 100);
  const minimum = shape.rows * row + (arm === 'paired' ? m * row : 0);
  results.push({
    suite: 'memory',
    case: name,
    shape: shape.name,
    hidden: shape.hidden,
    rows: shape.rows,
    dtype,
    strategy: arm,
    density: DENSITY,
    ...bytes,
    minimum,
    overMinimum: bytes.total / minimum,
  });
  summary[`memory.${shape.name}.${dtype}.${arm}.over_minimum`] = bytes.total / minimum;
}

async function measureModel(context: BenchContext, dtype: StoredDtype): Promise<ModelBytes> {
  const { device } = context.gpu;
  const rss = process.memoryUsage.rss();
  const gpu = gpuBytes(device);
  const folder = await DiskFolder.at(SHIPPED_MODEL);
  try {
    const checkpoint = await openCheckpoint(folder);
    const weights = await loadWeights(device, checkpoint, { dtype, storage: context.storage });
    const session = new LlamaSession(device, weights, { strategy: 'dense' });
    // One token: the prefill's kernels take long to compile and hold nothing until they are used.
    await session.next(1);
    const bytes = {
      estimate: estimateBytes(checkpoint.config, dtype, weights.context),
      weights: weights.bytes,
      session: session.bytes,
      gpu: gpuBytes(device) - gpu,
      rss: process.memoryUsage.rss() - rss,
    };
    session.destroy();
    weights.destroy();
    return bytes;
  } finally {
    await folder.close();
  }
}
