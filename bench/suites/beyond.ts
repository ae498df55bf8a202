import { budgetPart } from '../lib/beyond-budget.js';
import { replayPart } from '../lib/beyond-replay.js';
import { residentPart } from '../lib/beyond-resident.js';
import type { BenchContext, SuiteOutcome } from '../lib/report.js';

/** Pools that are not on the device, and decode that does not wait for the CPU. */
export async function beyondSuite(context: BenchContext): Promise<SuiteOutcome> {
  const outcome: SuiteOutcome = { results: [], summary: {} };
  for (const part of [replayPart, budgetPart, residentPart]) {
    const { results, summary } = await part(context);
    outcome.results.push(...results);
    Object.assign(outcome.summary, summary);
  }
  return outcome;
}
