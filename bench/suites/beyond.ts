import { budgetPart } from '../lib/beyond-budget.js';
import { replayPart } from '../lib/beyond-replay.js';
import { residentPart } from '../lib/beyond-resident.js';
import { startPart } from '../lib/beyond-start.js';
import type { BenchContext, SuiteOutcome } from '../lib/report.js';
import { predictSuite } from './predict.js';

/** Pools that are not on the device, decode that does not wait for the CPU, and rows that are predicted. */
export async function beyondSuite(context: BenchContext): Promise<SuiteOutcome> {
  const parts: SuiteOutcome[] = [];
  for (const part of [replayPart, budgetPart, startPart, residentPart, predictSuite])
    parts.push(await part(context));
  return {
    results: parts.flatMap(({ results }) => results),
    summary: Object.assign({}, ...parts.map(({ summary }) => summary)),
    skipped: parts.flatMap(({ skipped = [] }) => skipped),
  };
}
