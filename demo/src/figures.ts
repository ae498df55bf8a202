import type { LlamaWeights, StepStats } from '../../src/llama/index.js';

/** What a decoded token did, all layers together; null where the strategy in force does not tell. */
export interface Figures {
  tokensPerSecond: number;
  /** Mean over the layers. */
  activeRows: number | null;
  /** Rows written over active rows. */
  writesPerRow: number | null;
  /** Bytes of rows written, the fewest that would have done, and what gathering all active rows anew would write. */
  bytes: { written: number; minimum: number; gather: number } | null;
  /** Share of the active rows that were in the slab already. */
  hitRate: number | null;
}

/** The figures of one step. `rowBytes`: of a row of up and down. */
export function figuresOf(step: StepStats, tokensPerSecond: number, rowBytes: number): Figures {
  const { active, updates } = step;
  const rows = active?.reduce((sum, m) => sum + m, 0) ?? 0;
  const activeRows = active && rows / active.length;
  if (updates.length === 0 || rows === 0)
    return { tokensPerSecond, activeRows, writesPerRow: null, bytes: null, hitRate: null };
  const total = (of: (update: (typeof updates)[number]) => number) =>
    updates.reduce((sum, update) => sum + of(update), 0);
  const hits = total(({ residency, active: m, added }) => (residency ? residency.hits : m - added));
  return {
    tokensPerSecond,
    activeRows,
    writesPerRow: total(({ writes }) => writes) / rows,
    bytes: {
      written: total(({ bytes }) => bytes),
      minimum: total(({ minimumBytes }) => minimumBytes),
      gather: rows * rowBytes,
    },
    hitRate: hits / rows,
  };
}

/** Bytes of a row as it is written to a slab. */
export const slabRowBytes = (weights: LlamaWeights): number => weights.layers[0].mlp.rowBytes;

export const formatBytes = (bytes: number): string => {
  if (bytes < 1000) return `${bytes.toFixed(0)} B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(bytes < 1e4 ? 1 : 0)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
};
