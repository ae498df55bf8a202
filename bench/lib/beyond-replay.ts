import { fileURLToPath } from 'node:url';
import { readTrace } from '../../src/node/trace-file.js';
import { splitByUse } from '../../src/residency/budget.js';
import { useCounts } from '../../src/residency/replay.js';
import {
  BudgetedTrace,
  type LayerChurn,
  layerChurn,
  type PolicyFigures,
} from '../../src/residency/report.js';
import type { Trace } from '../../src/residency/trace.js';
import type { BenchContext, Result, SuiteOutcome } from './report.js';

const BUDGETS = [0.1, 0.25, 0.5];
/** The one that the summary needs. */
const QUICK_BUDGETS = [0.25];
const POLICIES = ['exact', 'window:4', 'lru', 'lfu:0.98', 'lfu', 'pinned:0.25', 'adaptive', 'packed'];
const QUICK_POLICIES = ['exact', 'lru', 'lfu', 'packed'];
/** What a session under a budget would use: what the headline stands for. */
const BEST = 'lfu';
const HEADLINE = 0.25;

/**
 * What rows cost that are not on the device: recorded masks of the shipped model under a budget, by every policy. No
 * GPU and no clock in it, so the figures are the same on every machine.
 */
export async function replayPart(context: BenchContext): Promise<SuiteOutcome> {
  const trace = await shippedTrace('statesman.trace.gz');
  const measured = await shippedTrace('statesman-measured.trace.gz');
  const results: Result[] = [];
  const summary: Record<string, number> = {};
  const budgets = context.quick ? QUICK_BUDGETS : BUDGETS;
  context.progress(0, budgets.length + 1, 'churn');
  reportChurn(
    await context.measured('churn', async () => layerChurn(trace)),
    trace,
    results,
    summary,
    context,
  );
  for (const [i, share] of budgets.entries()) {
    context.progress(i + 1, budgets.length + 1, `budget ${share}`);
    const kept = await context.measured(`replay ${share}`, async () =>
      underBudget(trace, measured, share, context.quick ? QUICK_POLICIES : POLICIES),
    );
    reportBudget(share, kept, trace, results, summary, context);
  }
  return { results, summary };
}

interface Kept {
  slots: readonly number[];
  beladyLoads: number;
  figures: PolicyFigures[];
  /** The same budget with slots where rows are used most. */
  byUse: { slots: readonly number[]; beladyLoads: number; figures: PolicyFigures };
}

function underBudget(trace: Trace, measured: Trace, share: number, policies: readonly string[]): Kept {
  const even = new BudgetedTrace(trace, { share });
  const counts = Array.from({ length: trace.info.layers }, (_, l) => useCounts(measured.layer(l)));
  // At least the mean step of every layer, or nearly all its steps would be in pieces.
  const least = Math.max(...layerChurn(measured).map(({ active }) => Math.ceil(active)));
  const split = new BudgetedTrace(trace, splitByUse({ share }, trace.info, counts, least));
  return {
    slots: even.slots,
    beladyLoads: even.beladyLoads,
    figures: policies.map((policy) => even.figures(policy, measured)),
    byUse: { slots: split.slots, beladyLoads: split.beladyLoads, figures: split.figures(BEST, measured) },
  };
}

function reportChurn(
  layers: readonly LayerChurn[],
  { info, steps }: Trace,
  results: Result[],
  summary: Record<string, number>,
  context: BenchContext,
): void {
  for (const { layer, ...figures } of layers) {
    results.push({
      suite: 'beyond',
      case: `churn layer ${layer}`,
      model: info.model,
      n: info.rows,
      steps,
      layer,
      ...figures,
    });
    const prefix = `beyond.churn.layer${layer}`;
    summary[`${prefix}.active`] = figures.active;
    summary[`${prefix}.persistence`] = figures.persistence;
    summary[`${prefix}.changed_per_m`] = figures.changedPerActive;
    summary[`${prefix}.writes_per_m`] = figures.writesPerActive;
    context.log(
      `layer ${layer}: ${figures.active.toFixed(0)} of ${info.rows} rows active, ` +
        `${(100 * figures.persistence).toFixed(0)} % stay, k/m ${figures.changedPerActive.toFixed(2)}, ` +
        `h/m ${figures.writesPerActive.toFixed(2)}`,
    );
  }
}

function reportBudget(
  share: number,
  { slots, beladyLoads, figures, byUse }: Kept,
  { info, steps }: Trace,
  results: Result[],
  summary: Record<string, number>,
  context: BenchContext,
): void {
  const percent = Math.round(share * 100);
  const prefix = `beyond.budget${percent}`;
  const common = { suite: 'beyond', model: info.model, budget: share, steps };
  for (const one of figures) {
    const { policy, ...rest } = one;
    results.push({ ...common, case: `budget ${percent} % ${policy}`, policy, slots, beladyLoads, ...rest });
    summary[`${prefix}.${policy.replace(':', '_')}.upload_bytes_vs_belady`] = one.versusBelady;
    if (policy !== BEST && policy !== 'packed') continue;
    summary[`${prefix}.${policy}.paired_vs_repack_upload`] = one.repackOverThis;
    summary[`${prefix}.${policy}.writes_per_m`] = one.writesPerActive;
  }
  const named = (name: string): PolicyFigures =>
    figures.find(({ policy }) => policy === name) as PolicyFigures;
  const best = named(BEST);
  const { policy, ...split } = byUse.figures;
  results.push({
    ...common,
    case: `budget ${percent} % ${policy}, slots by use`,
    policy,
    slots: byUse.slots,
    beladyLoads: byUse.beladyLoads,
    ...split,
  });
  summary[`${prefix}.by_use_over_even_upload`] = split.loads / best.loads;
  if (share === HEADLINE) {
    summary['beyond.upload_bytes_vs_belady'] = best.versusBelady;
    // Repack loads every active row at every step, whatever is resident.
    summary['beyond.paired_vs_repack_upload'] = best.repackOverThis;
    summary['beyond.paired_vs_repack_writes_per_m'] = best.writesPerActive;
  }
  context.log(
    `budget ${percent} %: uploads over the optimum: ${figures.map((one) => `${one.policy} ${one.versusBelady.toFixed(3)}`).join(', ')}; ` +
      `slots by use [${byUse.slots}] upload ${(split.loads / best.loads).toFixed(3)} of even`,
  );
}

/** Seen from dist/chunks and from here alike. */
function shippedTrace(name: string): Promise<Trace> {
  return readTrace(fileURLToPath(new URL(`../../bench/traces/${name}`, import.meta.url)));
}
