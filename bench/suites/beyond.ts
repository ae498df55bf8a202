import { replayPart } from '../lib/beyond-replay.js';
import type { BenchContext, SuiteOutcome } from '../lib/report.js';

/** Pools that are not on the device. */
export function beyondSuite(context: BenchContext): Promise<SuiteOutcome> {
  return replayPart(context);
}
