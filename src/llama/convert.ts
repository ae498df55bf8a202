/** Writes a model in its row-bundled form: see src/pool/FORMAT.md. */
import { encodeBf16, encodeF16 } from '../dtype.js';
import { OptionError } from '../errors.js';
import { checkStoredDtype, type MatrixData, type StoredDtype } from '../gpu/layout.js';
import { type ModelFolder, readExactly } from '../io/byte-source.js';
import {
  BUNDLE_INDEX,
  BUNDLE_ROWS,
  blockChecksums,
  bundleIndex,
  type IndexedPool,
  POOL_ALIGN,
} from '../pool/bundle.js';
import { HostPool } from '../pool/host-pool.js';
import type { QuantizationError } from '../quantize.js';
import { type Checkpoint, openCheckpoint, requiredTensors, requireTensors } from './checkpoint.js';
import { gateFields, gatePool, mlpFields, mlpPool, pooledTensors, type ReadMatrix } from './layer-fields.js';
import { safetensorsHeader, type TensorData, type TensorEntry, toF32 } from './safetensors.js';
import { otherDtype } from './weights.js';

/** A file that is being written, from its start. */
export interface FileSink {
  write(bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  close(): Promise<void>;
}

/** Where a model's files are written. */
export interface ModelSink {
  create(file: string): Promise<FileSink>;
}

export interface ConvertOptions {
  /** How gate, up and down are stored; the other matrices are stored as `otherDtype` of it. */
  dtype: StoredDtype;
  /** Rows that share a checksum and are read together. Default 1. */
  blockRows?: number;
  /** Looked at before each tensor. What was written until then is left to the sink's owner. */
  signal?: AbortSignal;
  /** Called after each tensor. */
  onProgress?: (done: number, total: number, name: string) => void;
}

export interface Converted {
  /** Bytes of all files. */
  bytes: number;
  /** Of the rows' file. */
  rowBytes: number;
  /** What storing matrices as q8 or q4 cost, by the tensor's name. */
  quantization: Record<string, QuantizationError>;
}

/** Copied as they are, where the model has them. */
const COPIED = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'tokenizer.model',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'chat_template.jinja',
];

const DTYPES = { F32: 'f32', F16: 'f16', BF16: 'bf16' } as const;

/**
 * Converts the model in `folder`, a layer at a time. The index is written last: a folder that has it is whole.
 * @throws what `openCheckpoint` and `requireTensors` throw; OptionError for a model that was converted already;
 * NonFiniteError for values that q8 or q4 cannot hold; the signal's reason; what the sink throws.
 */
export async function convertModel(
  folder: ModelFolder,
  sink: ModelSink,
  options: ConvertOptions,
): Promise<Converted> {
  const dtype = checkStoredDtype(options.dtype);
  const { blockRows = 1 } = options;
  if (!Number.isInteger(blockRows) || blockRows < 1)
    throw new OptionError(`blockRows must be an integer of 1 or more; it is ${blockRows}.`, { blockRows });
  const checkpoint = await openCheckpoint(folder);
  if (checkpoint.bundle) {
    throw new OptionError(
      `${folder.name} was converted already, to ${checkpoint.bundle.dtype}: convert the model that it was made from.`,
      { dtype: checkpoint.bundle.dtype },
    );
  }
  requireTensors(checkpoint);
  return new Converter(folder, checkpoint, sink, { ...options, dtype, blockRows }).run();
}

class Converter {
  private readonly folder: ModelFolder;
  private readonly checkpoint: Checkpoint;
  private readonly sink: ModelSink;
  private readonly options: ConvertOptions & { blockRows: number };
  private readonly quantization: Record<string, QuantizationError> = {};
  private readonly others: [name: string, shape: readonly number[]][];
  private readonly total: number;
  private done = 0;
  private bytes = 0;

  constructor(
    folder: ModelFolder,
    checkpoint: Checkpoint,
    sink: ModelSink,
    options: ConvertOptions & { blockRows: number },
  ) {
    this.folder = folder;
    this.checkpoint = checkpoint;
    this.sink = sink;
    this.options = options;
    const required = requiredTensors(checkpoint.config);
    const pooled = pooledTensors(checkpoint.config);
    this.total = required.size;
    this.others = [...required].filter(([name]) => !pooled.has(name));
  }

  async run(): Promise<Converted> {
    const { dtype } = this.options;
    let rowBytes = 0;
    const pools = await this.file(BUNDLE_ROWS, async (write) => {
      const made = await this.rows(write);
      rowBytes = made.size;
      return made.pools;
    });
    await this.file('model.safetensors', (write) => this.tensors(write));
    for (const name of COPIED) {
      const source = await this.folder.open(name);
      if (!source) continue;
      await this.file(name, async (write) => write(await readExactly(source, 0, source.size)));
    }
    const index = bundleIndex(dtype, rowBytes, pools, this.quantization);
    await this.file(BUNDLE_INDEX, (write) => write(new TextEncoder().encode(`${JSON.stringify(index)}\n`)));
    return { bytes: this.bytes, rowBytes, quantization: this.quantization };
  }

  /** One file, which is closed whatever happens. */
  private async file<T>(name: string, fill: (write: FileSink['write']) => Promise<T>): Promise<T> {
    const file = await this.sink.create(name);
    try {
      return await fill(async (bytes) => {
        await file.write(bytes);
        this.bytes += bytes.length;
      });
    } finally {
      await file.close();
    }
  }

  private async rows(write: FileSink['write']): Promise<{ pools: IndexedPool[]; size: number }> {
    const { checkpoint, options } = this;
    const { dtype, blockRows } = options;
    const read: ReadMatrix = (name, rows, cols) => this.matrix(name, rows, cols);
    const pools: IndexedPool[] = [];
    let size = 0;
    for (let l = 0; l < checkpoint.config.layers; l++) {
      for (const [name, fieldsOf] of [
        [gatePool(l), gateFields],
        [mlpPool(l), mlpFields],
      ] as const) {
        const host = HostPool.from(await fieldsOf(checkpoint, l, read), { dtype, label: name });
        if (host.fields.has('bias')) this.step(`${name} bias`);
        for (const { name: matrix, rmsRelative, maxAbsolute } of host.quantization)
          this.quantization[matrix] = { rmsRelative, maxAbsolute };
        const checksums = blockChecksums(host, blockRows);
        const fields = [...host.fields.values()];
        pools.push({ name, stored: { fields, rows: host.rows, offset: size, blockRows, checksums } });
        // Rows are whole vectors of 16 bytes, so that the next pool is aligned too.
        await write(host.bytes);
        size += host.bytes.length;
        if (size % POOL_ALIGN !== 0) throw new Error(`${name} ends at byte ${size}`);
      }
    }
    return { pools, size };
  }

  private async matrix(name: string, rows: number, cols: number): Promise<MatrixData> {
    this.options.signal?.throwIfAborted();
    const tensor = `${name}.weight`;
    const { data, dtype } = await this.checkpoint.read(tensor, [rows, cols]);
    this.step(name);
    return { data, dtype: DTYPES[dtype], name: tensor };
  }

  /** What is not in the bundle: matrices as they would be on the device, vectors as they are. */
  private async tensors(write: FileSink['write']): Promise<void> {
    const as = otherDtype(this.options.dtype);
    const stored = (name: string, shape: readonly number[]) =>
      shape.length === 1 ? this.checkpoint.info(name).dtype : as.toUpperCase();
    const entries = this.others.map(([name, shape]): TensorEntry => {
      const dtype = stored(name, shape);
      const bytes = (dtype === 'F32' ? 4 : 2) * shape.reduce((a, b) => a * b, 1);
      return { name, dtype, shape, bytes };
    });
    await write(safetensorsHeader(entries, { format: 'pt' }));
    for (const { name, shape, dtype } of entries) {
      this.options.signal?.throwIfAborted();
      const { buffer, byteOffset, byteLength } = encode(await this.checkpoint.read(name, shape), dtype);
      await write(new Uint8Array(buffer, byteOffset, byteLength));
      this.step(name);
    }
  }

  private step(name: string): void {
    this.options.onProgress?.(++this.done, this.total, name);
  }
}

function encode(tensor: TensorData, dtype: string): Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer> {
  if (tensor.dtype === dtype) return tensor.data;
  const values = toF32(tensor);
  if (dtype === 'F32') return values;
  return dtype === 'F16' ? encodeF16(values) : encodeBf16(values);
}
