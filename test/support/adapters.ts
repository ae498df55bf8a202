import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type AdapterEntry, chooseAdapter, listAdapters } from '../../src/node/adapters.js';
import { type NodeDevice, requestDevice, USED_FEATURES } from '../../src/node/device.js';
import { quietWait } from '../../src/node/quiet-wait.js';

/** What a suite gets for the adapter it runs on. */
export interface AdapterContext {
  readonly adapter: AdapterEntry;
  /** There only while tests and their hooks run, not while the suite is being declared. */
  readonly device: GPUDevice;
  /** Whether the device has the feature; may be asked while the suite is being declared. */
  has(feature: string): boolean;
}

const ABSENT = {
  lavapipe: 'not installed (see .ci/install-lavapipe)',
  swiftshader: 'not installed (it comes with @sparticuz/chromium, Linux x64 only)',
  gpu: 'no GPU on this machine',
};

/** Tests run in a tab: there are no servers and files, and src/node is replaced (see vitest.config.ts). */
export const IN_CHROMIUM = typeof process === 'undefined';

// PAIRSLAB_ADAPTER names the only one to test, and then its absence is an error. A tab has one.
const only = IN_CHROMIUM || process.env.PAIRSLAB_ADAPTER ? await chooseAdapter() : undefined;
const present = only ? [only] : await listAdapters();

/**
 * Declares a suite once for each adapter at hand; one that is absent shows as a skipped test with the reason. Each test
 * fails on any validation, out-of-memory or internal error that it does not catch with a scope of its own. One device
 * serves a suite's tests in turn, so they must not be `concurrent`.
 */
export function describeAdapters(name: string, body: (ctx: AdapterContext) => void): void {
  for (const adapter of present) describe(`${name} [${adapter.name}]`, () => withDevice(adapter, body));
  if (only) return;
  for (const [absent, reason] of Object.entries(ABSENT))
    if (!present.some((adapter) => adapter.name === absent))
      describe(name, () => void test.skip(`${absent}: skipped, ${reason}`, () => {}));
}

function withDevice(adapter: AdapterEntry, body: (ctx: AdapterContext) => void): void {
  let made: NodeDevice | undefined;
  const uncaught: string[] = [];
  const device = () => {
    if (!made) throw new Error('ctx.device is there only inside tests and their hooks');
    return made.device;
  };
  beforeAll(async () => {
    made = await requestDevice({
      adapter: adapter.name,
      tuning: false,
      log: (message) => uncaught.push(message),
    });
  });
  afterAll(() => made?.destroy());
  beforeEach(() => {
    for (const filter of ['internal', 'out-of-memory', 'validation'] as const)
      device().pushErrorScope(filter);
  });
  afterEach(async () => {
    const scopes = [device().popErrorScope(), device().popErrorScope(), device().popErrorScope()];
    const caught = (await quietWait(Promise.all(scopes))).filter((error) => error !== null);
    const errors = [
      ...caught.map((error) => `${error.constructor.name}: ${error.message}`),
      ...uncaught.splice(0),
    ];
    expect(errors, 'GPU errors that the test did not expect').toEqual([]);
  });
  body({
    adapter,
    get device() {
      return device();
    },
    has: (feature) => USED_FEATURES.includes(feature) && adapter.features.includes(feature),
  });
}
