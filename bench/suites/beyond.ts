import { budgetPart } from '../lib/beyond-budget.js';
import { replayPart } from '../lib/beyond-replay.js';
import { residentPart } from '../lib/beyond-resident.js';
import { startPart } from '../lib/beyond-start.js';
import type { BenchContext, SuiteOutcome } from '../lib/report.js';
import { predictSuite } from './predict.js';

/** They are fitted first, which no choice of a few of them makes quick. */
const NO_PREDICTORS: SuiteOutcome = {
  results: [],
  summary: {},
  skipped: [
    {
      case: 'predict',
      reason: 'takes longer than all of a quick run: name the suite, or run without --quick',
    },
  ],
};

/** Pools that are not on the device, decode that does not wait for the CPU, and rows that are predicted. */
export async function beyondSuite(context: BenchContext): Promise<SuiteOutcome> {
  const parts: SuiteOutcome[] = [];
  for (const part of [replayPart, budgetPart, startPart, residentPart]) parts.push(await part(context));
  parts.push(context.quick ? NO_PREDICTORS : await predictSuite(context));
  return {
    results: parts.flatMap(({ results }) => results),
    summary: Object.assign({}, ...parts.map(({ summary }) => summary)),
    skipped: parts.flatMap(({ skipped = [] }) => skipped),
  };
}
