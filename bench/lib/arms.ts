import { CapacityError, DeviceLimitError } from '../../src/errors.js';
import { destroyBuffer, roundUp, storageBuffer, upload } from '../../src/gpu/buffers.js';
import { finished } from '../../src/gpu/readback.js';
import type { Bitmask } from '../../src/mask/index.js';
import type { Estimates, FixedStrategy } from '../../src/mlp/cost-model.js';
import type { UpdateWay } from '../../src/mlp/update-way.js';
import type { SparseMLP } from '../../src/mlp/sparse-mlp.js';
import { weights } from './layers.js';
import type { Chain } from '../../src/tune/mask-ring.js';
import { shuffle, statsOf } from '../../src/tune/stats.js';
import type { DeviceTimer } from '../../src/tune/timer.js';

/**
 * The four strategies and `auto`; `packed` is a slab that holds the rows already: reading alone. `copied` and `fused` are
 * `paired` with one of the two ways of bringing in rows, which otherwise is the adapter's default.
 */
export type Arm = 'dense' | 'indexed' | 'repack' | 'paired' | 'auto' | 'packed' | UpdateArm;
type UpdateArm = 'copied' | 'fused';
const UPDATES: Partial<Record<Arm, UpdateWay>> = { copied: 'copy', fused: 'fused' };
/** The strategies that compete; `auto` chooses among them. */
export const FIXED: readonly Arm[] = ['dense', 'indexed', 'repack', 'paired'];

/** Those that use no slab. */
const READERS: readonly Arm[] = ['dense', 'indexed'];

/** What the slab of `paired` did in a run. */
export interface Writes {
  /** Rows that changed (added and removed) and rows written, over active rows: means over the sets. */
  changedPerM: number;
  writesPerM: number;
}

/** A layer with its input and output, run step by step by any arm over a chain of masks. */
export class LayerBench {
  readonly mlp: SparseMLP;
  /** How often `auto` took each strategy in `deviceMs`. */
  chosen: Partial<Record<FixedStrategy, number>> = {};
  /** What `auto` took each of them to cost, ms, at the first step of the last `deviceMs`. */
  estimates: Estimates | null = null;
  private readonly timer: DeviceTimer;
  private readonly batch: number;
  private readonly warm: boolean;
  private readonly x: GPUBuffer;
  private readonly y: GPUBuffer;

  /** @param warm Whether a step comes before those that are timed; long ones show no difference, and it costs as much. */
  constructor(mlp: SparseMLP, timer: DeviceTimer, batch = 1, warm = true) {
    const { device, inputStride, hidden } = mlp;
    this.mlp = mlp;
    this.timer = timer;
    this.batch = batch;
    this.warm = warm;
    // Batched kernels read whole tiles of x; 64 is a multiple of any.
    const values = inputStride * (batch === 1 ? 1 : roundUp(batch, 64));
    this.x = storageBuffer(device, 'bench x', values * 4);
    this.y = storageBuffer(device, 'bench y', batch * hidden * 4);
    upload(device, this.x, 0, Float32Array.from(weights(values, 2)));
  }

  /** Device ms of a step, over all steps of the chain in one submit. Masks are ready before the clock starts. */
  async deviceMs(arm: Arm, chain: Chain): Promise<number> {
    const masks = await this.prime(arm, chain);
    const ms = await this.timer.time((encoder) => {
      const pass = encoder.beginComputePass();
      masks.forEach((mask, s) => {
        if (arm === 'auto') this.note(mask, s, chain.reuse);
        this.encode(arm, pass, mask, s, chain.reuse);
      });
      pass.end();
    });
    this.mlp.submitted();
    return ms / masks.length;
  }

  /** Wall ms of a step: mask in hand to GPU done, diff, plan and encoding included, one submit a step. */
  async wallMs(arm: Arm, chain: Chain): Promise<number> {
    const { device } = this.mlp;
    const masks = await this.prime(arm, chain);
    const started = performance.now();
    for (let s = 0; s < masks.length; s++) {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      this.encode(arm, pass, masks[s], s, chain.reuse);
      pass.end();
      device.queue.submit([encoder.finish()]);
      this.mlp.submitted();
      await finished(device);
    }
    return (performance.now() - started) / masks.length;
  }

  /** Device ms of the update alone, per set. */
  async updateMs(arm: 'repack' | 'paired', chain: Chain): Promise<{ ms: number } & Writes> {
    const masks = await this.prime(arm, chain);
    const { slab } = this.mlp;
    let changed = 0;
    let writes = 0;
    const ms = await this.timer.time((encoder) => {
      const pass = encoder.beginComputePass();
      for (const mask of masks) {
        const stats = slab.encodeUpdate(pass, mask ?? chain.first, { strategy: arm });
        changed += (stats.added + stats.removed) / stats.active;
        writes += stats.writes / stats.active;
      }
      pass.end();
    });
    slab.submitted();
    return {
      ms: ms / masks.length,
      changedPerM: changed / masks.length,
      writesPerM: writes / masks.length,
    };
  }

  /** Destroys what this made; the layer stays. */
  destroy(): void {
    destroyBuffer(this.mlp.device, this.x);
    destroyBuffer(this.mlp.device, this.y);
  }

  /**
   * One step on the chain's first mask, so that every arm starts warm, and the slab from that mask: as in the middle
   * of a sequence. Without `warm` only the slab is brought there. @returns the masks to go on with; `packed` stays where
   * it is.
   */
  private async prime(arm: Arm, chain: Chain): Promise<readonly (Bitmask | undefined)[]> {
    const { mlp } = this;
    const steps = arm === 'packed' ? chain.steps.map(() => chain.first) : chain.steps;
    // What auto might use is made ready for it, where it fits.
    if (arm === 'auto') tolerating(() => mlp.slab.update(chain.first));
    else if (!this.warm && !READERS.includes(arm)) mlp.slab.update(chain.first);
    if (!this.warm) {
      await finished(mlp.device);
      return steps;
    }
    const encoder = mlp.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    this.encode(arm, pass, chain.first, 0, chain.reuse);
    pass.end();
    mlp.device.queue.submit([encoder.finish()]);
    mlp.submitted();
    await finished(mlp.device);
    return steps;
  }

  /**
   * Step `s` of masks that are used `reuse` times each. A mask that is used again is not packed again: what `repack`
   * keeps for a set is the slab as it is. `auto` is told how many uses are left.
   */
  private encode(
    arm: Arm,
    pass: GPUComputePassEncoder,
    mask: Bitmask | undefined,
    s: number,
    reuse: number,
  ): void {
    const { mlp, x, y, batch } = this;
    const again = s % reuse > 0;
    const packed = arm === 'packed' || arm === 'copied' || arm === 'fused' || (arm === 'repack' && again);
    const strategy = packed ? 'paired' : arm;
    mlp.encode(pass, { x, y, batch, mask, strategy, reuse: reuse - (s % reuse), update: UPDATES[arm] });
  }

  /** Counts what `auto` is about to take. Not where the host's time is measured. */
  private note(mask: Bitmask | undefined, s: number, reuse: number): void {
    const { strategy, estimates } = this.mlp.explain({ mask, batch: this.batch, reuse: reuse - (s % reuse) });
    this.chosen[strategy] = (this.chosen[strategy] ?? 0) + 1;
    if (s === 0) this.estimates = estimates;
  }
}

/** What the arms of a case took, ms per step, repeat by repeat. */
export interface ArmTimes {
  /** Steps in one submit. */
  steps: Partial<Record<Arm, number>>;
  deviceMs: Partial<Record<Arm, number[]>>;
  wallMs: Partial<Record<Arm, number[]>>;
  /** Arms that this adapter cannot run here, and why. */
  skipped: Partial<Record<Arm, string>>;
  /** How many of `auto`'s steps took each strategy, and what it took each to cost at the first, ms. */
  chosen: Partial<Record<FixedStrategy, number>>;
  estimates: Estimates | null;
  /** Device ms of the arms that could be the best, and of what `auto` took: all rounds, those after the others included. */
  finalMs: Partial<Record<Arm, number[]>>;
  /** Of the rival. */
  rival?: { steps: number; deviceMs: number[]; wallMs: number[] };
}

export interface ArmOptions {
  arms: readonly Arm[];
  /** The next masks; every run of an arm takes its own, so that no arm reads what another has just read. */
  chain: (sets: number, arm: Arm) => Chain;
  repeats: number;
  /** About how long one submit takes, ms: sets how many steps share it. */
  budgetMs: number;
  random: () => number;
  /** About how long the arms that could be the best go on, by device time alone. Default 0: not at all. */
  finalMs?: number;
  /** Has a turn among the arms in each round: what they are held against. */
  beside?: () => Promise<void>;
  /** An arm by another layer, which has its turns as well, but competes with none. */
  rival?: { bench: LayerBench; arm: Arm };
  /** Rounds in which wall time is taken too. Default: all. */
  wallRounds?: number;
}

/** An arm that is ready to be timed. */
interface Runner {
  bench: LayerBench;
  arm: Arm;
  reuse: number;
  sets: number;
  device: number[];
  wall: number[];
}

/** At most so many steps share a submit, so many are timed by wall; a set that is used more often is not cut. */
const STEPS = { device: 16, wall: 3 };
/** What is behind the best by this after the first rounds is not in the final. */
const BEHIND = 1.35;
/** Rounds of the final: at least so many, whatever they take, and at most. */
const FINAL_ROUNDS = { least: 10, most: 40 };

/** Times arms that take turns in shuffled order, after two runs each that compile and that show how long a step takes. */
export async function timeArms(bench: LayerBench, options: ArmOptions): Promise<ArmTimes> {
  const { chain, repeats, random, finalMs = 0, beside, rival, wallRounds = repeats } = options;
  const times: ArmTimes = {
    steps: {},
    deviceMs: {},
    wallMs: {},
    skipped: {},
    chosen: {},
    estimates: null,
    finalMs: {},
  };
  const arms: Runner[] = [];
  for (const arm of options.arms) {
    try {
      const runner = await ready(bench, arm, options);
      arms.push(runner);
      times.steps[arm] = runner.sets * runner.reuse;
      times.deviceMs[arm] = runner.device;
      times.wallMs[arm] = runner.wall;
    } catch (error) {
      if (!isLimit(error)) throw error;
      bench.mlp.submitted();
      times.skipped[arm] = error.message;
    }
  }
  const turns: (Runner | (() => Promise<void>))[] = [...arms];
  if (beside) turns.push(beside);
  if (rival) {
    const other = await ready(rival.bench, rival.arm, options);
    turns.push(other);
    times.rival = { steps: other.sets * other.reuse, deviceMs: other.device, wallMs: other.wall };
  }
  // From here on, warm.
  bench.chosen = {};
  for (let r = 0; r < repeats; r++) {
    for (const turn of shuffle([...turns], random)) {
      if (typeof turn === 'function') {
        await turn();
        continue;
      }
      const { arm, reuse, sets, device, wall } = turn;
      device.push(await turn.bench.deviceMs(arm, chain(sets, arm)));
      if (r < wallRounds)
        wall.push(await turn.bench.wallMs(arm, chain(Math.min(sets, Math.ceil(STEPS.wall / reuse)), arm)));
    }
  }
  times.chosen = { ...bench.chosen };
  times.estimates = bench.estimates;
  const medians = Object.fromEntries(arms.map(({ arm, device }) => [arm, statsOf(device).median]));
  // Nothing to judge where `auto` is not among the arms.
  if (!arms.some(({ arm }) => arm === 'auto')) return times;
  const best = medians[fastestOf(medians, FIXED)];
  const took = takenBy(times.chosen);
  const finalists = arms.filter(
    ({ arm }) => arm === took || (FIXED.includes(arm) && medians[arm] <= BEHIND * best),
  );
  for (const { arm, device } of finalists) times.finalMs[arm] = [...device];
  // One alone has nobody to be compared with.
  const rounds = finalMs > 0 && finalists.length > 1 ? FINAL_ROUNDS : { least: 0, most: 0 };
  const started = performance.now();
  for (let r = 0; r < rounds.most; r++) {
    if (r >= rounds.least && performance.now() - started > finalMs) break;
    for (const { arm, sets } of shuffle([...finalists], random))
      times.finalMs[arm]?.push(await bench.deviceMs(arm, chain(sets, arm)));
  }
  return times;
}

/** Runs an arm twice: the first compiles, the second shows how many steps take about as long as a submit is to take. */
async function ready(bench: LayerBench, arm: Arm, { chain, budgetMs }: ArmOptions): Promise<Runner> {
  await bench.deviceMs(arm, chain(1, arm));
  const one = chain(1, arm);
  const { reuse } = one;
  const setMs = reuse * (await bench.deviceMs(arm, one));
  const sets = Math.max(1, Math.min(Math.floor(STEPS.device / reuse), Math.ceil(budgetMs / setMs)));
  return { bench, arm, reuse, sets, device: [], wall: [] };
}

/** The arm that shows what `auto` costs: the one strategy that it took at all steps, whose times are there anyway; else its own. */
export function takenBy(chosen: ArmTimes['chosen']): Arm | undefined {
  const strategies = Object.keys(chosen) as FixedStrategy[];
  return strategies.length > 1 ? 'auto' : strategies[0];
}

/** The arm with the least device time, by median, of those that ran. */
export function fastestOf(medians: Partial<Record<Arm, number>>, among: readonly Arm[]): Arm {
  const ran = among.filter((arm) => medians[arm] !== undefined);
  return ran.reduce((best, arm) => ((medians[arm] as number) < (medians[best] as number) ? arm : best));
}

/** What an adapter is too small for. */
export function isLimit(error: unknown): error is CapacityError | DeviceLimitError {
  return error instanceof CapacityError || error instanceof DeviceLimitError;
}

function tolerating(run: () => unknown): void {
  try {
    run();
  } catch (error) {
    if (!isLimit(error)) throw error;
  }
}
