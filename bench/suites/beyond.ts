import { budgetPart } from '../lib/beyond-budget.js';
import { replayPart } from '../lib/beyond-replay.js';
import type { BenchContext, SuiteOutcome } from '../lib/report.js';

/** Pools that are not on the device. */
export async function beyondSuite(context: BenchContext): Promise<SuiteOutcome> {
  const replayed = await replayPart(context);
  const decoded = await budgetPart(context);
  return {
    results: [...replayed.results, ...decoded.results],
    summary: { ...replayed.summary, ...decoded.summary },
  };
}
