import { OptionError, ShapeError } from '../errors.js';
import { finished } from '../gpu/readback.js';
import type { RowStorage } from '../gpu/storage.js';
import { headQuads } from '../llama/kernels.js';
import { Sampler } from '../llama/sample.js';
import type { LlamaSession, StepStats } from '../llama/session.js';
import type { Bitmask } from '../mask/index.js';
import type { EncodeStep, SparseMLP } from '../mlp/sparse-mlp.js';
import type { UpdateStats } from '../slab/update-stats.js';
import { Ceilings, type Framed, framed, framedReads, type ReadCeilings } from './ceilings.js';
import { type RecordedDispatch, RecordingPass } from './recording.js';
import { replayOf } from './replay.js';
import { type Stats, statsOf } from './stats.js';
import { type DeviceTimer, deviceTimer } from './timer.js';
import { type LayerTraffic, leastBytes, nameOf, storageOf } from './traffic.js';

export interface ProfileOptions {
  /** Replays that are measured; one more comes first. Default 20. */
  repeats?: number;
  /** Whether to measure the read ceiling, before and after. Default true: it takes a second or more, and 150 MB. */
  ceiling?: boolean;
  onProgress?: (done: number, total: number, what: string) => void;
}

/** All times are milliseconds, statistics over the replays; bytes are the least that must be moved (see `leastBytes`). */
export interface DispatchProfile {
  readonly name: string;
  /** The variant that ran, as its pipeline is labelled. */
  readonly variant: string;
  readonly grid: readonly [number, number, number];
  /** What its rows are read from. */
  readonly storage: RowStorage;
  readonly bytes: number | null;
  readonly ms: Stats;
}

/** What the dispatches of one kernel over one kind of matrix take together, in one step. */
export interface KernelProfile {
  readonly name: string;
  readonly variants: readonly string[];
  /** What its rows are read from: of some dispatches at least a texture. */
  readonly storage: RowStorage;
  readonly dispatches: number;
  readonly ms: Stats;
  /** Of the sum of the parts. */
  readonly share: number;
  readonly bytes: number | null;
  readonly gbps: number | null;
  /** GB/s over the read ceiling of what its rows are read from. */
  readonly ofCeiling: number | null;
}

export interface Profile {
  readonly timer: DeviceTimer['kind'];
  readonly repeats: number;
  /** The slowest first. */
  readonly kernels: readonly KernelProfile[];
  /** In the order in which they run. */
  readonly dispatches: readonly DispatchProfile[];
  /** Sum of the parts: each dispatch by itself. */
  readonly parts: Stats;
  /** What is timed with nothing in it: by `timestamp-query` a pass, part of each part; by the clock a submit, taken off. */
  readonly empty: Stats;
  /** All dispatches in one pass. */
  readonly device: Stats;
  /** The real step: recorded, submitted, waited for. */
  readonly wall: Stats | null;
  /**
   * What one dispatch costs in the pass beyond what it takes by itself; negative where neighbours overlap, or where a
   * pass of its own costs more than a place in one.
   */
  readonly overheadPerDispatch: number;
  readonly bytes: number;
  /** By the time in one pass. */
  readonly gbps: number;
  /** By the time in one pass, and the same for the sum of the parts: the time that the ceilings allow over the time taken. */
  readonly ofCeiling: number | null;
  readonly partsOfCeiling: number | null;
  /** GB/s that are read from a buffer, and from a texture where any kernel does. */
  readonly ceilings: ProfileCeilings | null;
}

export type ProfileCeilings = Pick<ReadCeilings<Framed>, 'buffer'> & Partial<ReadCeilings<Framed>>;

export interface ModelProfile extends Profile {
  readonly position: number;
  readonly step: StepStats;
  /** After the profiled token: what `next` would have given. */
  readonly logits: Float32Array;
}

export interface MLPProfile extends Profile {
  /** What the slab did; null for strategies without one. */
  readonly update: UpdateStats | null;
}

/** What is known of a recorded step besides its dispatches. */
export interface Recorded {
  readonly dispatches: readonly RecordedDispatch[];
  /** By layer, for the bytes of what depends on the step. */
  readonly layers?: readonly LayerTraffic[];
  /** Runs the real step once more; gives milliseconds. Called after all replays, since it may change what they read. */
  readonly real?: () => Promise<number>;
  /** How often it can be called; default as often as there are repeats. */
  readonly realSteps?: number;
}

const REPEATS = 20;
const CEILING_REPEATS = 5;

/** Times what was recorded by replaying it: it must do the same each time, and the device must be otherwise idle. */
export async function profileDispatches(
  device: GPUDevice,
  recorded: Recorded,
  options: ProfileOptions = {},
): Promise<Profile> {
  const { repeats = REPEATS, onProgress } = options;
  if (!Number.isInteger(repeats) || repeats < 1) {
    throw new OptionError(`repeats must be an integer of 1 or more; it is ${repeats}.`, { repeats });
  }
  const each: number[][] = [];
  const whole: number[] = [];
  const empties: number[] = [];
  const replay = replayOf(device, recorded.dispatches);
  const { kind } = replay;
  const measure = async (): Promise<void> => {
    // The first replay is not counted. The two ways take turns, so that what slows the machine slows both.
    for (let r = -1; r < repeats; r++) {
      onProgress?.(r + 1, repeats + 1, 'replays');
      const [parts, all] = [await replay.each(), await replay.whole()];
      if (r < 0) continue;
      each.push(parts.dispatches);
      empties.push(parts.empty);
      whole.push(all);
    }
  };
  let ceilings: ProfileCeilings | null = null;
  const textures = recorded.dispatches.some((one) => storageOf(one) === 'texture');
  try {
    if (options.ceiling === false) await measure();
    else ceilings = await underCeilings(device, textures, measure, onProgress);
  } finally {
    replay.destroy();
  }
  const wall: number[] = [];
  const { real, realSteps = repeats } = recorded;
  for (let r = 0; real && r < Math.min(repeats, realSteps); r++) {
    onProgress?.(r, repeats, 'real steps');
    wall.push(await real());
  }
  const parts = statsOf(each.map(sum));
  const inPass = statsOf(whole);
  const bytes = leastBytes(recorded.dispatches, recorded.layers ?? []);
  const total = sum(bytes.map((count) => count ?? 0));
  const gbps = total / inPass.median / 1e6;
  const kernels = byKernel(recorded.dispatches, each, bytes, ceilings);
  const least =
    ceilings && sum(recorded.dispatches.map((one, i) => (bytes[i] ?? 0) / rateOf(one, ceilings) / 1e6));
  return {
    timer: kind,
    repeats,
    kernels,
    dispatches: recorded.dispatches.map((one, i) => ({
      name: nameOf(one),
      variant: variantOf(one),
      grid: one.grid,
      storage: storageOf(one),
      bytes: bytes[i],
      ms: statsOf(each.map((times) => times[i])),
    })),
    parts,
    empty: statsOf(empties),
    device: inPass,
    wall: wall.length > 0 ? statsOf(wall) : null,
    overheadPerDispatch: (inPass.median - parts.median) / Math.max(1, recorded.dispatches.length),
    bytes: total,
    gbps,
    ofCeiling: least && least / inPass.median,
    partsOfCeiling: least && least / parts.median,
    ceilings,
  };
}

/**
 * Profiles the decode step of `id`. Afterwards the session is where `next(id)` would have left it. Where slabs carry over
 * (repack, paired) some tokens should have been decoded before, else the step fills them.
 * @throws ShapeError when the context has no room for another token after `id`; what `next` throws.
 */
export async function profileModel(
  session: LlamaSession,
  id: number,
  options: ProfileOptions = {},
): Promise<ModelProfile> {
  const { device, weights, position } = session;
  const room = weights.context - position - 1;
  if (room < 1) {
    throw new ShapeError(
      `the context of ${weights.context} must have room for two tokens after ${position}, the profiled one and the next.`,
      { context: weights.context, position },
    );
  }
  const dispatches: RecordedDispatch[] = [];
  session.tap = (pass) => new RecordingPass(dispatches, pass);
  let logits: Float32Array;
  try {
    logits = await session.next(id);
  } finally {
    session.tap = null;
  }
  const step = session.lastStep;
  const { kvHeads, headDim } = weights.config;
  const cache = 2 * (position + 1) * kvHeads * headQuads(headDim) * 16;
  const layers = weights.layers.map(({ mlp }, l): LayerTraffic => {
    const update = step.updates[l];
    return {
      rows: mlp.rows,
      capacity: mlp.rows,
      active: step.active?.[l] ?? mlp.rows,
      moved: update ? moved(update, mlp.rowBytes) : 0,
      written: update?.writes ?? 0,
      cache,
    };
  });
  const greedy = new Sampler();
  let token = greedy.pick(logits);
  const real = async (): Promise<number> => {
    const started = performance.now();
    const following = await session.next(token);
    const ms = performance.now() - started;
    token = greedy.pick(following);
    return ms;
  };
  try {
    const profile = await profileDispatches(device, { dispatches, layers, real, realSteps: room }, options);
    return { ...profile, position, step, logits };
  } finally {
    session.reset(position + 1);
    session.lastStep = step;
  }
}

/** A step as `SparseMLP.encode` takes it. */
export interface ProfiledStep extends EncodeStep {
  /** Rows of the step before: what repack and paired find in the slab. Default: none, or what is there. */
  previous?: Bitmask;
}

/** Profiles one step of a layer; y holds its result afterwards. @throws what `encode` throws. */
export async function profileMLP(
  mlp: SparseMLP,
  step: ProfiledStep,
  options: ProfileOptions = {},
): Promise<MLPProfile> {
  const { device, pool } = mlp;
  const { previous, ...given } = step;
  const packs = step.strategy === 'repack' || step.strategy === 'paired';
  const prepare = (): void => {
    if (packs && previous) mlp.slab.update(previous);
  };
  const run = (tap?: RecordedDispatch[]): UpdateStats | null => {
    const encoder = device.createCommandEncoder({ label: 'pairslab profile' });
    const pass = encoder.beginComputePass({ label: 'pairslab profile' });
    const update = mlp.encode(tap ? new RecordingPass(tap, pass) : pass, given);
    pass.end();
    device.queue.submit([encoder.finish()]);
    mlp.submitted();
    return update;
  };
  prepare();
  const dispatches: RecordedDispatch[] = [];
  const update = run(dispatches);
  const layer: LayerTraffic = {
    rows: pool.rows,
    capacity: packs ? mlp.slab.capacity : pool.rows,
    active: mlp.explain(given).step.active,
    moved: update ? moved(update, pool.rowBytes) : 0,
    written: update?.writes ?? 0,
    cache: 0,
  };
  const real = async (): Promise<number> => {
    prepare();
    await finished(device);
    const started = performance.now();
    run();
    await finished(device);
    return performance.now() - started;
  };
  return { ...(await profileDispatches(device, { dispatches, layers: [layer], real }, options)), update };
}

async function underCeilings(
  device: GPUDevice,
  textures: boolean,
  measure: () => Promise<void>,
  onProgress?: ProfileOptions['onProgress'],
): Promise<ProfileCeilings> {
  const timer = deviceTimer(device);
  const ceilings = new Ceilings(device, timer, (done, total) => onProgress?.(done, total, 'read ceiling'));
  try {
    if (textures) return (await framedReads(ceilings, CEILING_REPEATS, measure)).reads;
    return { buffer: (await framed(ceilings, CEILING_REPEATS, measure)).read };
  } finally {
    ceilings.destroy();
    timer.destroy();
  }
}

function byKernel(
  dispatches: readonly RecordedDispatch[],
  each: readonly (readonly number[])[],
  bytes: readonly (number | null)[],
  ceilings: ProfileCeilings | null,
): KernelProfile[] {
  const members = new Map<string, number[]>();
  dispatches.forEach((one, i) => {
    const name = nameOf(one);
    members.set(name, [...(members.get(name) ?? []), i]);
  });
  const medians = [...members.values()].map((mine) => statsOf(each.map((times) => sumOf(mine, times))));
  const all = sum(medians.map(({ median }) => median));
  return [...members]
    .map(([name, mine], k): KernelProfile => {
      const ms = medians[k];
      const known = mine.every((i) => bytes[i] !== null);
      const moves = known ? sum(mine.map((i) => bytes[i] as number)) : null;
      const gbps = moves !== null && ms.median > 0 ? moves / ms.median / 1e6 : null;
      const texture = mine.some((i) => storageOf(dispatches[i]) === 'texture');
      return {
        name,
        storage: texture ? 'texture' : 'buffer',
        variants: [...new Set(mine.map((i) => variantOf(dispatches[i])))],
        dispatches: mine.length,
        ms,
        share: all > 0 ? ms.median / all : 0,
        bytes: moves,
        gbps,
        ofCeiling: gbps !== null && ceilings ? gbps / rateOf(dispatches[mine[0]], ceilings) : null,
      };
    })
    .sort((a, b) => b.ms.median - a.ms.median);
}

/** GB/s that a dispatch could read at. */
const rateOf = (one: RecordedDispatch, ceilings: ProfileCeilings): number =>
  (ceilings[storageOf(one)] ?? ceilings.buffer).median;

/** Rows are read as the pool stores them and written as the slab does. */
const moved = (update: UpdateStats, poolRowBytes: number): number =>
  update.kind === 'none' || update.kind === 'deferred' ? 0 : update.writes * poolRowBytes + update.bytes;

const variantOf = ({ bound, pipeline }: RecordedDispatch): string => bound?.kernel.label ?? pipeline.label;

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const sumOf = (indices: readonly number[], values: readonly number[]): number =>
  indices.reduce((total, i) => total + values[i], 0);
