import { OptionError } from '../errors.js';
import type { BufferGroup } from '../gpu/buffers.js';
import type { Plan } from '../plan/index.js';
import type { OffDevicePool, ReadOptions } from '../pool/pool.js';
import { ArrivingRows } from './arriving-rows.js';
import type { SlabField } from './copier.js';
import { StagedCopier, type StagingMemory, stageMoves } from './staged-copier.js';
import type { CopyTuning } from './variants.js';

/** A slab on a device, and the pool that its rows come from. */
export interface OffDeviceTarget {
  readonly pool: OffDevicePool;
  readonly fields: ReadonlyMap<string, SlabField>;
  readonly buffers: ReadonlyMap<string, GPUBuffer>;
  readonly rowList: GPUBuffer;
  readonly capacity: number;
  /** Takes what is allocated. */
  readonly memory: BufferGroup;
  readonly options: CopyTuning & { pendingUpdates?: number };
}

/** What a plan moves, and how many rows the slab has then. */
type Moves = Pick<Plan, 'moves' | 'active'>;

/** A slab's way to rows that are not on the device: they are read, uploaded through a ring and copied into their slots. */
export class OffDeviceRows {
  private readonly pool: OffDevicePool;
  private readonly copier: StagedCopier;
  /** Rows on their way. */
  private readonly arriving = new ArrivingRows();

  constructor(
    ring: StagingMemory,
    { pool, fields, buffers, rowList, capacity, memory, options }: OffDeviceTarget,
  ) {
    this.pool = pool;
    this.copier = new StagedCopier(pool, fields, buffers, rowList, capacity, memory, ring, options);
  }

  /** @throws OptionError for rows that must be read first. */
  checkInMemory(): void {
    if (this.pool.readNow) return;
    throw new OptionError(
      `the rows of ${this.pool.label} have to be read first: use \`await slab.load(mask)\`.`,
    );
  }

  /** Uploads rows of a pool in host memory and encodes where they go. @throws OptionError when the ring is full. */
  encode(pass: GPUComputePassEncoder, { moves, active }: Moves): void {
    const staged = stageMoves(moves);
    this.copier.encode(pass, staged, 0, staged.ids.length, active);
  }

  /** The same and the submit, or as many as the ring needs. */
  submit({ moves, active }: Moves): void {
    this.copier.submit(stageMoves(moves), active);
  }

  /** Reads the rows, from whatever pool. @returns what `submit` does, with them. @throws what the pool's `read` throws. */
  async read({ moves, active }: Moves, reading?: ReadOptions): Promise<() => void> {
    const { pool, copier } = this;
    const staged = stageMoves(moves);
    const rows = this.arriving.room(staged.ids.length * pool.rowBytes);
    if (rows.length > 0) await pool.read(staged.ids, rows, reading);
    return () => copier.submit(staged, active, rows);
  }

  /** Reads all of them where they have to be read, and submits them. @throws what the pool's `read` throws. */
  async bring(moves: Moves): Promise<void> {
    if (this.pool.readNow) this.submit(moves);
    else (await this.read(moves))();
  }

  submitted(): void {
    this.copier.submitted();
  }
}
