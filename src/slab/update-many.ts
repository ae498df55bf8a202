import { OptionError, ShapeError } from '../errors.js';
import type { Bitmask } from '../mask/index.js';
import type { PlannedUpdate, Slab } from './slab.js';
import type { UpdateOptions } from './slab-options.js';
import { moves, type UpdateStats } from './update-stats.js';
import type { UploadRing } from './upload-ring.js';

/** One slab's part of a call. */
interface Part {
  readonly slab: Slab;
  readonly mask: Bitmask;
  readonly planned: PlannedUpdate;
}

/**
 * Brings several slabs of one device to their masks, as `slab.update` would each: a model's layers, say. One submit for
 * all of them, and one upload for those that share a ring; where what arrives does not fit their ring at once, as many
 * as it takes. When any of them cannot have its mask, none is changed.
 *
 * @returns what each update did, in the slabs' order.
 * @throws ShapeError for another number of masks than of slabs, or a mask of other than N rows; OptionError for slabs on
 * several devices, one that is given twice, or one whose rows must be read first; CapacityError naming the rows that do
 * not fit; DeviceLostError.
 */
export function updateMany(
  slabs: readonly Slab[],
  masks: readonly Bitmask[],
  options: UpdateOptions = {},
): UpdateStats[] {
  const parts = checked(slabs, masks, options);
  const [first] = slabs;
  if (!first) return [];
  const { device } = first;
  const stats: UpdateStats[] = [];
  for (let begin = 0; begin < parts.length; ) {
    const end = endOfSubmit(parts, begin);
    if (end === begin) {
      // More than its ring holds: in pieces, by itself.
      const { slab, mask } = parts[begin++];
      stats.push(slab.update(mask, options));
      continue;
    }
    const some = parts.slice(begin, end);
    const encoder = device.createCommandEncoder({ label: 'pairslab updates' });
    const done = together(ringsOf(some), () => encode(encoder, some, options));
    if (done.some(moves)) device.queue.submit([encoder.finish()]);
    for (const { slab } of some) slab.submitted();
    stats.push(...done);
    begin = end;
  }
  return stats;
}

/** Buffer copies stand outside of passes, so they come first; no two parts touch the same memory. */
function encode(encoder: GPUCommandEncoder, parts: readonly Part[], options: UpdateOptions): UpdateStats[] {
  const done = new Map<Slab, UpdateStats>();
  const byCopies = parts.filter(({ slab }) => slab.copiesBuffers(options));
  for (const { slab, mask } of byCopies) done.set(slab, slab.encodeUpdateByCopies(encoder, mask));
  if (byCopies.length < parts.length) {
    const pass = encoder.beginComputePass({ label: 'pairslab updates' });
    for (const { slab, mask, planned } of parts)
      if (!done.has(slab)) done.set(slab, slab.encodePlan(pass, planned, mask, options));
    pass.end();
  }
  return parts.map(({ slab }) => done.get(slab) as UpdateStats);
}

/** All that can be refused is refused here, before any slab has changed. */
function checked(slabs: readonly Slab[], masks: readonly Bitmask[], options: UpdateOptions): Part[] {
  if (slabs.length !== masks.length) {
    throw new ShapeError(`there are ${masks.length} masks for ${slabs.length} slabs: give one for each.`, {
      masks: masks.length,
      slabs: slabs.length,
    });
  }
  const seen = new Set<Slab>();
  return slabs.map((slab, s) => {
    if (slab.device !== slabs[0].device)
      throw new OptionError(`${slab.label} and ${slabs[0].label} are on different devices.`);
    if (seen.has(slab)) throw new OptionError(`${slab.label} is given twice.`);
    seen.add(slab);
    const mask = masks[s];
    slab.checkInMemory();
    return { slab, mask, planned: slab.planFor(mask, options) };
  });
}

/** How far the parts from `begin` on can share a submit. */
function endOfSubmit(parts: readonly Part[], begin: number): number {
  const taken = new Map<UploadRing, number>();
  for (let end = begin; end < parts.length; end++) {
    const {
      slab: { ring, pool },
      planned: { plan, stats },
    } = parts[end];
    if (!ring || !moves(stats)) continue;
    const rows = plan.kind === 'repack' ? plan.active : plan.added.length;
    const at = taken.get(ring) ?? ring.bytes - ring.room(1);
    const next = (Math.ceil(at / pool.rowBytes) + rows) * pool.rowBytes;
    if (next > ring.bytes) return end;
    taken.set(ring, next);
  }
  return parts.length;
}

const ringsOf = (parts: readonly Part[]): UploadRing[] => [
  ...new Set(parts.flatMap(({ slab: { ring } }) => (ring ? [ring] : []))),
];

function together<T>([ring, ...others]: readonly UploadRing[], work: () => T): T {
  return ring ? ring.together(() => together(others, work)) : work();
}
