import { OptionError } from '../errors.js';
import { BufferGroup, checkBindingSize } from '../gpu/buffers.js';
import { DevicePool } from '../pool/device-pool.js';
import type { OffDevicePool } from '../pool/pool.js';
import { SlabCopier, type SlabField } from './copier.js';
import type { SlabOptions } from './slab-options.js';
import { StagedCopier, stageMoves } from './staged-copier.js';
import { UploadRing } from './upload-ring.js';

/** The least a slab's own ring has, unless all of the slab is smaller. */
const OWN_RING_BYTES = 4 << 20;

/** Where a slab is. @throws OptionError when nothing says so, or pool, device and ring do not agree. */
export function slabDevice(
  pool: DevicePool | OffDevicePool,
  { device: given, ring }: SlabOptions,
): GPUDevice {
  const device = pool instanceof DevicePool ? pool.device : (given ?? ring?.device);
  if (!device)
    throw new OptionError(
      `${pool.label} is on no device: give the slab one, \`new Slab(pool, { device })\`.`,
    );
  for (const one of [given, ring?.device]) {
    if (one && one !== device)
      throw new OptionError(`${pool.label}, device and ring of a slab must be on one device.`);
  }
  return device;
}

/** What a slab has on a device: made with it, and made anew when it is rebuilt on another one. */
export class SlabParts {
  readonly device: GPUDevice;
  readonly rowList: GPUBuffer;
  readonly buffers: ReadonlyMap<string, GPUBuffer>;
  /** One of them, by where the pool is. */
  readonly copier?: SlabCopier;
  readonly staged?: StagedCopier;
  private readonly memory: BufferGroup;
  private readonly ownRing?: UploadRing;

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
      else {
        const bytes = Math.max(pool.rowBytes, Math.min(OWN_RING_BYTES, capacity * pool.rowBytes));
        if (!options.ring) this.ownRing = new UploadRing(device, { bytes, label: `${label} ring` });
        const ring = options.ring ?? (this.ownRing as UploadRing);
        this.staged = new StagedCopier(pool, fields, buffers, rowList, capacity, memory, ring, options);
      }
    } catch (error) {
      this.destroy();
      throw error;
    }
  }

  /** GPU bytes held. */
  get bytes(): number {
    return this.memory.bytes + (this.ownRing?.bytes ?? 0);
  }

  /** Brings row `rows[s]` of the pool into slot s, for every s. @throws what the pool's `read` throws. */
  async fill(pool: DevicePool | OffDevicePool, rows: Uint32Array): Promise<void> {
    const { device, copier, staged } = this;
    const moves = new Uint32Array(2 * rows.length);
    for (const [slot, row] of rows.entries()) moves.set([slot, row], 2 * slot);
    if (staged && !(pool instanceof DevicePool)) {
      let arrived: Uint8Array<ArrayBuffer> | undefined;
      if (!pool.readNow) {
        arrived = new Uint8Array(rows.length * pool.rowBytes);
        if (rows.length > 0) await pool.read(rows, arrived);
      }
      staged.submit(stageMoves(moves), rows.length, arrived);
      return;
    }
    const encoder = device.createCommandEncoder({ label: 'pairslab rebuild' });
    const pass = encoder.beginComputePass({ label: 'pairslab rebuild' });
    copier?.encodeMoves(pass, moves, rows.length);
    pass.end();
    device.queue.submit([encoder.finish()]);
    this.submitted();
  }

  submitted(): void {
    this.copier?.submitted();
    this.staged?.submitted();
  }

  destroy(): void {
    this.memory.destroy();
    this.ownRing?.destroy();
  }
}
