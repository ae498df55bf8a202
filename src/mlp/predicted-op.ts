import { type BufferGroup, f32Bits, upload } from '../gpu/buffers.js';
import { encodeDispatch, foldGrid, type Kernel, kernel } from '../gpu/kernel.js';
import { traitsOf } from '../gpu/traits.js';
import { DevicePool } from '../pool/device-pool.js';
import type { ActiveOpOptions } from './active-op.js';
import { modelLinear } from './model-kernels.js';
import { gateUpPredicted } from './threshold-kernels.js';
import { latentValues, planeWords, predictorCodes, type RowPredictor } from './predictor.js';
import { RowOp, rowParams } from './row-op.js';
import { rowConstants, rowVariant, storedSlots, unitsOf } from './variants.js';

/** What a layer's predictor is on the device. */
export class DevicePredictor {
  readonly kind: RowPredictor['kind'];
  readonly predictor: RowPredictor;
  readonly columns: number;
  /** Of a row's codes, in vec4<u32>. */
  readonly vectors: number;
  readonly codes: GPUBuffer;
  /** Of low rank: [rank, columns], field `weight`. */
  readonly project?: DevicePool;
  private readonly memory: BufferGroup;

  /** A predictor that was checked, for rows over `columns` values. `memory` keeps its codes. */
  constructor(memory: BufferGroup, predictor: RowPredictor, columns: number, label: string) {
    const { vectors, data } = predictorCodes(predictor, columns);
    this.memory = memory;
    this.kind = predictor.kind;
    this.predictor = predictor;
    this.columns = columns;
    this.vectors = vectors;
    this.codes = memory.storage(`${label} predictor`, data.byteLength);
    upload(memory.device, this.codes, 0, data);
    if (predictor.kind === 'low_rank') {
      const weight = { data: predictor.project, cols: columns };
      this.project = DevicePool.from(
        memory.device,
        { weight },
        { dtype: 'f32', label: `${label} predictor` },
      );
    }
  }

  /** GPU bytes beside those of its group. */
  get bytes(): number {
    return this.project?.bytes ?? 0;
  }

  /** project · x and the 1 after it, to be written anew at each token. */
  makeLatent(): GPUBuffer | undefined {
    if (this.predictor.kind !== 'low_rank') return undefined;
    const { rank } = this.predictor;
    const latent = new Float32Array(latentValues(rank));
    latent[rank] = 1;
    const buffer = this.memory.storage('latent', latent.byteLength);
    upload(this.memory.device, buffer, 0, latent);
    return buffer;
  }

  /** Destroys what its group does not keep. */
  destroy(): void {
    this.project?.destroy();
  }
}

/** Without biases: there are not bindings enough. */
export type PredictedOpOptions = Omit<ActiveOpOptions, 'gateBias' | 'upBias' | 'all'> & {
  predictor: DevicePredictor;
};

/** Rows of a segment on software adapters: each finds the input's signs anew, and has barriers of its own. */
const SOFTWARE_ROWS = 256;
/** Columns of an x that fits the 16 KB of a workgroup's memory beside the lists of so many rows. */
const MOST_NEAR = 2560;

/** `gate_up_predicted`, and for a predictor of low rank the projection before it. */
export class PredictedOp {
  /** Rows a workgroup works on and keeps one run of the list for. */
  readonly segment: number;
  /** Segments, and so counts at the head of the list. */
  readonly segments: number;
  /** [a count a segment, each segment's active ids from its own start, predicted rows a segment] */
  readonly list: GPUBuffer;
  private readonly kernel: Kernel;
  private readonly group: GPUBindGroup;
  private readonly grid: readonly [number, number, number];
  private readonly projection?: { op: RowOp; x: GPUBuffer; out: GPUBuffer; rank: number };

  constructor(memory: BufferGroup, options: PredictedOpOptions) {
    const { gate, up, activation, norm, predictor } = options;
    const { device } = memory;
    const [shard] = gate.shards;
    const [columns] = gate.parts;
    const chosen =
      options.variant ??
      rowVariant(device, 'gate_up_active', gate.dtype, false, columns, 'f32', gate.storage);
    // Every lane has a row's score to find, on software adapters four of them.
    const least = traitsOf(device).software ? SOFTWARE_ROWS : chosen.WORKGROUP;
    const near = columns <= MOST_NEAR ? chosen.x : 'buffer';
    const variant = { ...chosen, x: near, ROWS: Math.max(chosen.ROWS, least) };
    const { team, tile, width, ROWS } = variant;
    const stored = unitsOf(gate.dtype, width, columns, options.compute, gate.storage);
    this.segment = ROWS;
    this.segments = Math.ceil(shard.rows / ROWS);
    this.list = memory.storage('active rows', (2 * this.segments + shard.rows) * 4);
    const of = predictor.predictor;
    this.kernel = kernel(device, gateUpPredicted, {
      slots: {
        team,
        tile,
        ...storedSlots(stored, variant),
        activation: activation.slot,
        norm: norm ? 'rms' : 'none',
        predictor: predictor.kind,
      },
      constants: {
        ...rowConstants(device, variant, gate.dtype, columns),
        VECTORS: predictor.vectors,
        ...(of.kind === 'signs'
          ? { BITS: of.bits, INPUT_BITS: of.inputBits, WORDS: planeWords(columns) }
          : {}),
      },
    });
    const latent = predictor.makeLatent();
    this.group = this.kernel.bind({
      params: memory.uniform(
        'gate_up_predicted params',
        rowParams({ ...options, rows: gate, outStride: 0 }, shard, stored.units),
      ),
      predict: memory.uniform('predict params', [columns, f32Bits(of.kind === 'signs' ? of.scale : 0)]),
      weights: shard.memory,
      up_weights: up.shards[0].memory,
      codes: predictor.codes,
      latent,
      x: options.x,
      residual: norm?.residual,
      out: options.out,
      list: this.list,
    });
    this.grid = [...foldGrid(device, this.segments), 1];
    if (latent && predictor.project && of.kind === 'low_rank') {
      const { xStride } = options;
      const rows = predictor.project.field('weight');
      const op = new RowOp(memory, {
        table: modelLinear,
        rows,
        mode: 'dense',
        xStride,
        outStride: of.rank,
        batched: false,
        norm,
      });
      this.projection = { op, x: options.x, out: latent, rank: of.rank };
    }
  }

  encode(pass: GPUComputePassEncoder, step: GPUBuffer): void {
    if (this.projection) {
      const { op, x, out, rank } = this.projection;
      op.encode(pass, { step, x, out, count: rank, batch: 1 });
    }
    encodeDispatch(pass, { kernel: this.kernel, group: this.group, grid: this.grid });
  }
}
