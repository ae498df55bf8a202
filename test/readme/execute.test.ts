/** Every TypeScript snippet of the README, run as it stands. */
import { describe, expect, it } from 'vitest';
import * as deviceEntry from '../../src/node/device.js';
import * as core from '../../src/index.js';
import * as devicePlan from '../../src/device-plan.js';
import * as llama from '../../src/llama/index.js';
import * as mask from '../../src/mask/index.js';
import * as plan from '../../src/plan/index.js';
import * as pool from '../../src/pool/index.js';
import * as residency from '../../src/residency/index.js';
import * as tune from '../../src/tune/index.js';
import { describeAdapters, IN_CHROMIUM } from '../support/adapters.js';
import { type Play, SNIPPETS, snippetOf, written } from './snippets.js';

const entries = (adapter: string): Record<string, object> => ({
  pairslab: core,
  'pairslab/device-plan': devicePlan,
  'pairslab/llama': llama,
  'pairslab/mask': mask,
  'pairslab/plan': plan,
  'pairslab/pool': pool,
  'pairslab/residency': residency,
  'pairslab/tune': tune,
  // Of all adapters the one whose turn it is.
  'pairslab/node': { requestDevice: () => deviceEntry.requestDevice({ adapter, tuning: false }) },
});

/** A module's text as a function's: imports become variables. A module may await, so the function is async. */
const AsyncFunction = (async () => {}).constructor as new (
  ...args: string[]
) => (...given: unknown[]) => Promise<Record<string, unknown>>;

const executor =
  (adapter: string): Play['execute'] =>
  async (code, variables, gives, modules = {}) => {
    const exports = { ...entries(adapter), ...modules };
    const body = code.replace(/^import (\{[^}]*\}) from '([^']+)';/gm, (_, names: string, from: string) => {
      if (!exports[from]) throw new Error(`the README imports ${from}, which this test does not have`);
      return `const ${names.replaceAll(' as ', ': ')} = modules['${from}'];`;
    });
    const names = Object.keys(variables);
    const run = new AsyncFunction('modules', ...names, `${body}\nreturn { ${gives.join(', ')} };`);
    return run(exports, ...Object.values(variables));
  };

describe('the snippets of the README', () => {
  it('are all known here, and each entry is one of them', () => {
    expect(written.map(snippetOf)).toEqual(SNIPPETS);
  });
});

describeAdapters('the README runs', (ctx) => {
  for (const [i, code] of written.entries()) {
    const { node, run, elsewhere } = snippetOf(code);
    if (elsewhere) {
      it.skip(`snippet ${i + 1}: skipped, ${elsewhere} is run with its runtime by test/runtimes`, () => {});
      continue;
    }
    it.skipIf(IN_CHROMIUM && node)(`snippet ${i + 1}`, () =>
      run({ code, device: ctx.device, execute: executor(ctx.adapter.name) }),
    );
  }
});
