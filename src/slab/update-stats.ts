import type { Plan } from '../plan/index.js';

/** What an update did. Bytes count what is written to the slab; as many are read where nothing is converted. */
export interface UpdateStats {
  readonly kind: 'paired' | 'repack' | 'none' | 'deferred';
  readonly added: number;
  readonly removed: number;
  /** Active rows after the update, m'. */
  readonly active: number;
  /** Rows written. */
  readonly writes: number;
  /** The fewest rows that could have been written. */
  readonly minimum: number;
  readonly bytes: number;
  readonly minimumBytes: number;
  /** Set when the change was put off: the slab still holds the old mask. */
  readonly deferred: { readonly added: Uint32Array; readonly removed: Uint32Array } | null;
  /**
   * Of a slab that keeps rows for later: rows that were there already, rows that went, and the pieces of the step. Where
   * rows were guessed: those that were fetched for it, and how many of them it used; these are no hits.
   */
  readonly residency?: {
    readonly hits: number;
    readonly evicted: number;
    readonly pieces: number;
    readonly prefetched?: { readonly guessed: number; readonly used: number };
  };
}

/** What a plan does to a slab of rows of so many bytes. */
export function describe(plan: Plan, rowBytes: number): UpdateStats {
  const unchanged = plan.added.length + plan.removed.length === 0 && plan.kind !== 'repack';
  return {
    kind: plan.deferred ? 'deferred' : unchanged ? 'none' : plan.kind === 'repack' ? 'repack' : 'paired',
    added: plan.added.length,
    removed: plan.removed.length,
    active: plan.active,
    writes: plan.writes,
    minimum: plan.minimum,
    bytes: plan.writes * rowBytes,
    minimumBytes: plan.minimum * rowBytes,
    deferred: plan.deferred,
  };
}

/** An update that wrote no more rows than it had to, of so many bytes each. */
export function tight(
  kind: 'paired' | 'none',
  change: Pick<UpdateStats, 'added' | 'removed' | 'active' | 'writes'>,
  rowBytes: number,
): UpdateStats {
  const bytes = change.writes * rowBytes;
  return { kind, ...change, minimum: change.writes, bytes, minimumBytes: bytes, deferred: null };
}

/** Whether there is anything to do on the device. */
export const moves = ({ kind }: UpdateStats): boolean => kind !== 'none' && kind !== 'deferred';
