import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { ModelFormatError, OptionError } from '../../src/errors.js';
import type { Rates } from '../../src/gpu/tuning.js';
import { tuningOf } from '../../src/gpu/tuning.js';
import { type AdapterEntry, listAdapters } from '../../src/node/adapters.js';
import { type AutotuneFlags, runAutotune } from '../../src/node/commands/autotune.js';
import { requestDevice } from '../../src/node/device.js';
import { type CostShape, measuredRows } from '../../src/tune/costs.js';
import { diskStore } from '../../src/node/tuning-store.js';

// They have tests of their own, and take seconds.
const made = vi.hoisted(() => ({ signals: [] as (AbortSignal | undefined)[] }));
vi.mock('../../src/tune/costs.js', async (original) => ({
  ...(await original<typeof import('../../src/tune/costs.js')>()),
  measureCosts: async (_: GPUDevice, shape: CostShape, { signal }: { signal?: AbortSignal }) => {
    made.signals.push(signal);
    const rates: Rates = [[1, 2]];
    const reads = { launch: 0.1, dense: rates, indexed: rates, again: rates, packed: rates };
    const copy = { launch: 0.1, rates };
    const size = measuredRows(shape);
    return {
      dtype: shape.dtype,
      ...size,
      wait: 0.2,
      read: reads,
      readBatched: reads,
      move: copy,
      select: copy,
    };
  },
}));

// SwiftShader where it is: it compiles ten times as fast as lavapipe.
const adapter = (await listAdapters()).at(-1) as AdapterEntry;
const small = {
  adapter: adapter?.name,
  shape: [{ hidden: 36, rows: 90 }],
  dtype: 'f32',
  seconds: 20,
} as const;

/** What the command writes to stdout and to stderr. */
async function run(flags: Partial<AutotuneFlags>, folder: string): Promise<{ out: string; err: string }> {
  const text = { out: '', err: '' };
  const to = (name: 'out' | 'err') => (chunk: unknown) => {
    text[name] += chunk;
    return true;
  };
  const spies = [
    vi.spyOn(process.stdout, 'write').mockImplementation(to('out')),
    vi.spyOn(process.stderr, 'write').mockImplementation(to('err')),
  ];
  try {
    await runAutotune({ ...small, shape: [...small.shape], ...flags }, folder);
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  return text;
}

describe.skipIf(!adapter)('pairslab autotune', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pairslab-autotune-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  afterEach(() => {
    process.exitCode = undefined;
  });

  it('has nothing to print at first', async () => {
    expect((await run({ print: true }, folder)).out).toMatch(/nothing was saved/);
    expect((await run({ print: true, json: true }, folder)).out).toBe('null\n');
    expect(readdirSync(folder)).toEqual([]);
  });

  it('stops at an interrupt and saves nothing', async () => {
    const stopped = run({}, folder);
    // The command listens once it has its device.
    while (process.listenerCount('SIGINT') === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    process.emit('SIGINT');
    expect((await stopped).err).toMatch(/stopped: what was saved before is kept/);
    expect(process.exitCode).toBe(130);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('shows what it chose and keeps it for the devices to come', async () => {
    const { out, err } = await run({}, folder);
    expect(err).toContain(`adapter: ${adapter.name}`);
    for (const text of ['linear', 'gate_up_active', 'down', 'copy_rows', 'speed-up', 'kept in'])
      expect(out).toContain(text);
    expect(readdirSync(folder)).toHaveLength(1);

    const saved = JSON.parse((await run({ print: true, json: true }, folder)).out);
    expect(saved).toMatchObject({ file: join(folder, readdirSync(folder)[0]), costs: [{ dtype: 'f32' }] });
    expect(saved.entries).toHaveLength(8);
    const speedups = saved.entries.map(({ speedup }: { speedup: number }) => speedup);
    expect(saved.summary).toEqual({ 'tune.default_worst': Math.max(...speedups) });
    expect(out).toMatch(
      Math.max(...speedups) === 1
        ? /alone, all would be the same/
        : /alone, the worst would take \d+\.\d\d× as long/,
    );

    const gpu = await requestDevice({ adapter: adapter.name, tuning: diskStore(folder) });
    expect(tuningOf(gpu.device)).toEqual({ entries: saved.entries, costs: saved.costs });
    gpu.destroy();
    const untuned = await requestDevice({ adapter: adapter.name, tuning: false });
    expect(tuningOf(untuned.device)).toBeNull();
    untuned.destroy();
  });

  it('measures only what is new, unless it is forced', async () => {
    const again = JSON.parse((await run({ json: true }, folder)).out);
    expect(again.entries).toHaveLength(8);
    expect(again.seconds).toBeLessThan(2);
    const before = made.signals.length;
    const forced = await run({ json: true, force: true, shape: [{ hidden: 8, rows: 9 }] }, folder);
    const { entries } = JSON.parse(forced.out);
    expect(entries).toHaveLength(8);
    expect(entries.every(({ cols }: { cols: number }) => cols === 8)).toBe(true);
    expect(made.signals.length).toBe(before + 1);
  });

  it('replaces a corrupt file with a warning', async () => {
    const [file] = readdirSync(folder);
    writeFileSync(join(folder, file), '{"format":1,');
    const { err, out } = await run({ json: true, print: true }, folder);
    expect(err).toMatch(/saved tuning is ignored: it is not JSON/);
    expect(out).toBe('null\n');
    const said: string[] = [];
    const gpu = await requestDevice({
      adapter: adapter.name,
      tuning: diskStore(folder),
      log: (message) => said.push(message),
    });
    gpu.destroy();
    expect(said).toEqual([expect.stringMatching(/is ignored: it is not JSON/)]);
    const anew = await run({ json: true, shape: [{ hidden: 4, rows: 4 }], storage: 'texture' }, folder);
    expect(anew.err).toMatch(/is ignored/);
    const stored = JSON.parse(anew.out).entries.map(
      ({ kernel, storage = 'buffer' }: { kernel: string; storage?: string }) => `${kernel} ${storage}`,
    );
    expect([...new Set(stored)]).toEqual([
      'linear texture',
      'gate_up texture',
      'gate_up_active texture',
      'down texture',
      'copy_rows buffer',
      'gate_up buffer',
      'down buffer',
    ]);
    expect((await run({ print: true }, folder)).out).toMatch(/linear .* texture /);
    expect((await run({ json: true, print: true }, folder)).err).not.toMatch(/is ignored/);
  });

  it.each<[string, Partial<AutotuneFlags>, typeof OptionError, RegExp]>([
    ['a model and a shape', { model: 'x' }, OptionError, /not both/],
    ['no model', { model: '/nowhere', shape: undefined }, ModelFormatError, /nowhere is not a model folder/],
  ])('refuses %s', async (_, flags, type, message) => {
    const failed = run(flags, folder);
    await expect(failed).rejects.toThrow(type);
    await expect(failed).rejects.toThrow(message);
  });

  it("takes a model's shapes", async () => {
    const model = fileURLToPath(new URL('../../demo/models/statesman', import.meta.url));
    const { out } = await run({ json: true, model, shape: undefined, seconds: 0.01, force: true }, folder);
    const { notes } = JSON.parse(out);
    expect(notes.join()).toMatch(/down 256x1536 f32: no time/);
    expect(notes.join()).not.toMatch(/gate_up 256/);
  });
});
