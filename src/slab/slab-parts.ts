import { OptionError } from '../errors.js';
import { BufferGroup, checkBindingSize } from '../gpu/buffers.js';
import { DevicePool } from '../pool/device-pool.js';
import type { OffDevicePool } from '../pool/pool.js';
import { SlabCopier, type SlabField } from './copier.js';
import type { SlabOptions } from './slab-options.js';
import type { OffDeviceRows } from './off-device-rows.js';

/** Where a slab is. @throws OptionError when neither pool nor ring says so. */
export function slabDevice(pool: DevicePool | OffDevicePool, { ring }: SlabOptions): GPUDevice {
  if (pool instanceof DevicePool) return pool.device;
  if (ring) return ring.device;
  throw new OptionError(
    `${pool.label} is not on a device: give the slab a ring for its rows, \`new Slab(pool, { ring: new UploadRing(device) })\`.`,
  );
}

/** What a slab has on a device: made with it, and made anew when it is rebuilt on another one. */
export class SlabParts {
  readonly device: GPUDevice;
  readonly rowList: GPUBuffer;
  readonly buffers: ReadonlyMap<string, GPUBuffer>;
  /** One of them, by where the pool is. */
  readonly copier?: SlabCopier;
  readonly far?: OffDeviceRows;
  private readonly memory: BufferGroup;

  /** @throws DeviceLimitError, OptionError as `Slab`; DeviceLostError. Nothing stays allocated then. */
  constructor(
    device: GPUDevice,
    pool: DevicePool | OffDevicePool,
    fields: ReadonlyMap<string, SlabField>,
    capacity: number,
    label: string,
    options: SlabOptions,
  ) {
    for (const field of fields.values())
      checkBindingSize(device, `${label} ${field.name}`, capacity * field.rowBytes);
    this.device = device;
    const memory = new BufferGroup(device);
    this.memory = memory;
    try {
      const rowList = memory.storage(`${label} rows`, 16 + 4 * capacity);
      const buffers = new Map<string, GPUBuffer>();
      for (const { name, rowBytes } of fields.values())
        buffers.set(name, memory.storage(`${label} ${name}`, capacity * rowBytes));
      this.rowList = rowList;
      this.buffers = buffers;
      if (pool instanceof DevicePool)
        this.copier = new SlabCopier(pool, fields, buffers, rowList, capacity, memory, options);
      else this.far = options.ring?.rowsFor({ pool, fields, buffers, rowList, capacity, memory, options });
    } catch (error) {
      this.destroy();
      throw error;
    }
  }

  /** GPU bytes held. */
  get bytes(): number {
    return this.memory.bytes;
  }

  /** Brings row `rows[s]` of the pool into slot s, for every s. @throws what the pool's `read` throws. */
  async fill(rows: Uint32Array): Promise<void> {
    const { device, copier, far } = this;
    const moves = new Uint32Array(2 * rows.length);
    for (const [slot, row] of rows.entries()) moves.set([slot, row], 2 * slot);
    await far?.bring({ moves, active: rows.length });
    if (!copier) return;
    const encoder = device.createCommandEncoder({ label: 'pairslab rebuild' });
    const pass = encoder.beginComputePass({ label: 'pairslab rebuild' });
    copier.encodeMoves(pass, moves, rows.length);
    pass.end();
    device.queue.submit([encoder.finish()]);
    this.submitted();
  }

  submitted(): void {
    this.copier?.submitted();
    this.far?.submitted();
  }

  destroy(): void {
    this.memory.destroy();
  }
}
