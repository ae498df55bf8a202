import type { Readback } from '../gpu/readback.js';
import { Bitmask } from '../mask/index.js';
import type { Slab } from '../slab/slab.js';
import type { LlamaGraph } from './graph.js';
import { Recorder } from './recorder.js';
import type { RowChoice } from './row-choice.js';
import type { LlamaSession, StepStats } from './session.js';

/**
 * Records one token that was set on the graph, up to its logits, where slabs are planned on the host (repack, and paired
 * with `planOn: 'host'`): each layer's mask is waited for.
 * @param watch Sees passes and masks.
 * @param pick Chooses each layer's rows, where it is not a threshold on the gate that does.
 * @returns the rest, for the caller to add to and submit.
 */
export async function encodeHostPlanned(
  graph: LlamaGraph,
  slabs: readonly Slab[],
  strategy: 'repack' | 'paired',
  readback: Readback,
  stats: StepStats,
  watch: Pick<LlamaSession, 'device' | 'tap' | 'onMask'>,
  pick?: RowChoice['pick'],
): Promise<GPUCommandEncoder> {
  const onSubmit = () => {
    stats.submits++;
    for (const slab of slabs) slab.submitted();
  };
  const recorder = new Recorder(watch.device, 'pairslab decode', onSubmit, watch.tap);
  const run = graph.layerRun(1);
  const active: number[] = [];
  graph.encodeEmbed(recorder.pass, 1);
  for (const [l, { mlp }] of graph.layers.entries()) {
    graph.encodeAttention(recorder.pass, l, 1);
    mlp.encodeGate(recorder.pass, run);
    const source = pick ? graph.gate : mlp.encodeMask(recorder.pass, run.step);
    const bytes = (pick ? mlp.rows : Math.ceil(mlp.rows / 32)) * 4;
    recorder.flush((encoder) => readback.encodeCopy(encoder, source, 0, 0, bytes));
    const read = await readback.read(bytes);
    const mask = pick?.(l, new Float32Array(read)) ?? Bitmask.fromWords(new Uint32Array(read), mlp.rows);
    stats.readbacks++;
    watch.onMask?.(l, mask);
    stats.updates.push(slabs[l].encodeUpdate(recorder.pass, mask, { strategy }));
    active.push(slabs[l].active);
    mlp.encodePacked(recorder.pass, run);
  }
  graph.encodeFinalNorm(recorder.pass, 1);
  graph.encodeHead(recorder.pass, 1);
  stats.active = active;
  return recorder.finish();
}
