import { destroyBuffer, storageBuffer } from '../gpu/buffers.js';
import type { StoredDtype } from '../gpu/layout.js';
import { finished } from '../gpu/readback.js';
import type { Costs, ReadCosts } from '../gpu/tuning.js';
import { Bitmask } from '../mask/index.js';
import type { FixedStrategy } from '../mlp/cost-model.js';
import { SparseMLP } from '../mlp/sparse-mlp.js';
import { type DeviceTimer, deviceTimer } from './timer.js';

/** The layer that costs are measured on: 24 MB a field in f32, beyond most caches, uploaded in a moment. */
const HIDDEN = 1024;
const ROWS = { full: 6144, small: 768 } as const;
/** Rows whose cost is that of the dispatches alone. */
const FEW = 8;
const BATCH = 8;
const ROUNDS = 5;
/** Steps in a submit: enough to outweigh what a submit costs by itself. */
const STEPS = 3;

export interface CostOptions {
  /** `small` is for tests: a layer that caches hold, whose costs say little. Default full. */
  size?: keyof typeof ROWS;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number, what: string) => void;
}

/**
 * Measures what the cost model needs to know of an adapter, in about two seconds a dtype on a software adapter: the
 * device time of each strategy on one layer at two sizes, the arms taking turns; medians.
 */
export async function measureCosts(
  device: GPUDevice,
  dtype: StoredDtype,
  options: CostOptions = {},
): Promise<Costs> {
  const lab = new CostLab(device, dtype, ROWS[options.size ?? 'full']);
  try {
    await lab.open();
    return await lab.measure(options);
  } finally {
    lab.close();
  }
}

class CostLab {
  private readonly device: GPUDevice;
  private readonly dtype: StoredDtype;
  private readonly rows: number;
  /** A quarter of the rows, as a sparse step has them. */
  private readonly active: number;
  private readonly timer: DeviceTimer;
  private readonly buffers: GPUBuffer[] = [];
  private mlp?: SparseMLP;

  constructor(device: GPUDevice, dtype: StoredDtype, rows: number) {
    this.rows = rows;
    this.active = rows / 4;
    this.device = device;
    this.dtype = dtype;
    this.timer = deviceTimer(device);
  }

  async open(): Promise<void> {
    const { device, dtype, rows } = this;
    // One matrix serves as all three: what it holds changes no time, as long as nothing is denormal.
    const values = Float32Array.from({ length: HIDDEN * rows }, (_, i) => ((i * 7919) % 1021) / 1021 - 0.5);
    this.mlp = await SparseMLP.create(device, {
      hidden: HIDDEN,
      gate: values,
      up: values,
      down: values,
      downRows: true,
      dtype,
      pendingUpdates: STEPS + 1,
      label: 'cost model',
    });
  }

  async measure({ signal, onProgress }: CostOptions): Promise<Costs> {
    const mlp = this.mlp as SparseMLP;
    const x = this.buffer('cost model x', BATCH * mlp.inputStride * 4);
    const y = this.buffer('cost model y', BATCH * HIDDEN * 4);
    const step = async (strategy: FixedStrategy, mask: Bitmask | undefined, batch: number) => {
      // A packed step finds its rows in the slab already.
      if (strategy === 'paired' && mask) mlp.slab.update(mask);
      const ms = await this.time((pass) => mlp.encode(pass, { x, y, batch, mask, strategy }));
      mlp.submitted();
      return ms;
    };
    const update = async (strategy: 'paired' | 'repack') => {
      mlp.slab.update(shifted(0, this.rows));
      const ms = await this.time((pass, s) =>
        mlp.slab.encodeUpdate(pass, shifted(s + 1, this.rows), { strategy, tau: 1 }),
      );
      mlp.submitted();
      return ms;
    };
    const { rows, active } = this;
    const mask = spread(active, rows);
    const arms: Record<string, () => Promise<number>> = {
      launch: () => step('indexed', spread(FEW, rows), 1),
      wait: () => this.wait(),
      move: () => update('paired'),
      select: () => update('repack'),
    };
    for (const batch of [1, BATCH]) {
      for (const way of ['dense', 'indexed', 'paired'] as const) {
        arms[`${way} ${batch}`] = () => step(way, way === 'dense' ? undefined : mask, batch);
      }
    }
    const names = Object.keys(arms);
    const times = new Map<string, number[]>(names.map((name) => [name, []]));
    for (let round = -1; round < ROUNDS; round++) {
      for (const [i, name] of names.entries()) {
        signal?.throwIfAborted();
        onProgress?.((round + 1) * names.length + i, (ROUNDS + 1) * names.length, `cost of ${name}`);
        const ms = await arms[name]();
        // The first round compiles.
        if (round >= 0) times.get(name)?.push(ms);
      }
    }
    const median = (name: string) => (times.get(name) ?? []).sort((a, b) => a - b)[ROUNDS >> 1];
    const launch = median('launch') / 2;
    const perGigabyte = (ms: number, launches: number, rows: number) =>
      Math.max(0, ms - launches * launch) / ((rows * mlp.pool.rowBytes) / 1e9);
    const read = (batch: number): ReadCosts => ({
      dense: perGigabyte(median(`dense ${batch}`), 2, rows),
      indexed: perGigabyte(median(`indexed ${batch}`), 2, active),
      packed: perGigabyte(median(`paired ${batch}`), 2, active),
    });
    return {
      dtype: this.dtype,
      launch,
      wait: median('wait'),
      read: read(1),
      readBatched: read(BATCH),
      move: { each: 0, gigabyte: perGigabyte(median('move'), 1, active / 2) },
      select: { each: 0, gigabyte: perGigabyte(median('select'), 1, active) },
    };
  }

  /** Milliseconds until an empty submit is known to be done. */
  private async wait(): Promise<number> {
    const commands = this.device.createCommandEncoder().finish();
    const started = performance.now();
    this.device.queue.submit([commands]);
    await finished(this.device);
    return performance.now() - started;
  }

  close(): void {
    for (const buffer of this.buffers) destroyBuffer(this.device, buffer);
    this.timer.destroy();
    this.mlp?.destroy();
  }

  /** Milliseconds of one of STEPS equal steps in one pass. */
  private async time(encode: (pass: GPUComputePassEncoder, step: number) => void): Promise<number> {
    const ms = await this.timer.time((encoder) => {
      const pass = encoder.beginComputePass();
      for (let s = 0; s < STEPS; s++) encode(pass, s);
      pass.end();
    });
    return ms / STEPS;
  }

  private buffer(label: string, bytes: number): GPUBuffer {
    const buffer = storageBuffer(this.device, label, bytes);
    this.buffers.push(buffer);
    return buffer;
  }
}

/** m of N rows, evenly apart. */
function spread(m: number, rows: number): Bitmask {
  const ids = Array.from({ length: m }, (_, i) => Math.floor((i * rows) / m));
  return Bitmask.fromIds(ids, rows);
}

/** A quarter of N rows, of which the next step's mask keeps half: even runs, each step moved on by half a run. */
function shifted(step: number, rows: number): Bitmask {
  const run = 64;
  const runs = rows / 4 / run;
  const ids: number[] = [];
  for (let r = 0; r < runs; r++) {
    const first = (r * rows) / runs + (step * run) / 2;
    for (let i = 0; i < run; i++) ids.push((first + i) % rows);
  }
  return Bitmask.fromIds(ids, rows);
}
