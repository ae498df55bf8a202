/** What a profile records, counts and leaves behind; that its figures are right, only a clock could say. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { readRows as readRowsTwin } from '../../shaders/read_rows.js';
import { readSum as readSumTwin } from '../../shaders/read_sum.js';
import { OptionError, ShapeError } from '../../src/errors.js';
import { BufferGroup, gpuBytes, storageBuffer, upload } from '../../src/gpu/buffers.js';
import { encodeDispatch, kernel } from '../../src/gpu/kernel.js';
import { readBuffer } from '../../src/gpu/readback.js';
import type { RowStorage } from '../../src/gpu/storage.js';
import { createTexels, uploadTexels } from '../../src/gpu/texels.js';
import { openCheckpoint } from '../../src/llama/checkpoint.js';
import { LlamaSession } from '../../src/llama/session.js';
import { type LlamaWeights, loadWeights } from '../../src/llama/weights.js';
import { Bitmask } from '../../src/mask/index.js';
import { fusedUpdate } from '../../src/mlp/fused-update.js';
import { SparseMLP } from '../../src/mlp/sparse-mlp.js';
import type { Strategy } from '../../src/mlp/strategy.js';
import { requestDevice } from '../../src/node/device.js';
import { readRows, readSum } from '../../src/tune/ceilings.js';
import { type Profile, profileMLP, profileModel } from '../../src/tune/profile.js';
import { type RecordedDispatch, RecordingPass } from '../../src/tune/recording.js';
import { describeAdapters } from '../support/adapters.js';
import { largestDifference } from '../support/compare-logits.js';
import { makeModel } from '../support/make-model.js';

const QUICK = { repeats: 2, ceiling: false };
const STRATEGIES = ['dense', 'indexed', 'repack', 'paired'] as const;
const STEPS = [
  ['dense', undefined],
  ['indexed', undefined],
  ['repack', 'copy'],
  ['repack', 'fused'],
  ['paired', 'copy'],
  ['paired', 'fused'],
] as const;
const HIDDEN = 32;
const ROWS = 96;
const ROW_BYTES = HIDDEN * 4;

const even = (step: number): Bitmask =>
  Bitmask.fromIds(
    Array.from({ length: ROWS / step }, (_, i) => i * step),
    ROWS,
  );

/** A layer, its buffers, and what to do with them. */
async function withMLP(
  device: GPUDevice,
  use: (mlp: SparseMLP, x: GPUBuffer, y: GPUBuffer) => Promise<void>,
  storage?: RowStorage,
): Promise<void> {
  const values = Float32Array.from({ length: HIDDEN * ROWS }, (_, i) => Math.sin(i) / 4);
  const mlp = await SparseMLP.create(device, {
    hidden: HIDDEN,
    gate: values,
    up: values,
    down: values,
    storage,
    fused: fusedUpdate,
  });
  const x = storageBuffer(device, 'x', mlp.inputStride * 4);
  const y = storageBuffer(device, 'y', HIDDEN * 4);
  upload(
    device,
    x,
    0,
    Float32Array.from({ length: HIDDEN }, (_, i) => Math.cos(i)),
  );
  try {
    await use(mlp, x, y);
  } finally {
    mlp.destroy();
    x.destroy();
    y.destroy();
  }
}

/** kernel name → dispatches */
const counts = (profile: Profile): Record<string, number> =>
  Object.fromEntries(profile.kernels.map(({ name, dispatches }) => [name.split(' ')[0], dispatches]));
const bytesOf = (profile: Profile, name: string): number | null | undefined =>
  profile.dispatches.find((one) => one.name.startsWith(name))?.bytes;

function checkSums(profile: Profile): void {
  expect(profile.kernels.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 6);
  expect(profile.kernels.reduce((sum, { dispatches }) => sum + dispatches, 0)).toBe(
    profile.dispatches.length,
  );
  expect(profile.bytes).toBe(profile.dispatches.reduce((sum, { bytes }) => sum + (bytes ?? 0), 0));
  for (const ms of [profile.parts, profile.device, profile.wall]) {
    expect(ms?.n).toBe(QUICK.repeats);
    expect(ms?.median).toBeGreaterThan(0);
  }
}

describeAdapters('profile of an MLP', (ctx) => {
  it('finds the kernels of each strategy, and the bytes of the rows that they read', () =>
    withMLP(ctx.device, async (mlp, x, y) => {
      const mask = even(3);
      const active = ROWS / 3;
      for (const [strategy, update] of STEPS) {
        const step = { x, y, mask, previous: even(4), strategy, update };
        const profile = await profileMLP(mlp, step, QUICK);
        const rows = strategy === 'dense' ? ROWS : active;
        const writes = profile.update?.writes ?? 0;
        if (profile.update) expect(writes).toBe(strategy === 'repack' ? active : profile.update.minimum);
        // Rows that arrive are read with the others, and written.
        const arrived = update === 'fused' ? writes : 0;
        const what = `${strategy} ${update}`;
        expect(bytesOf(profile, 'gate_up'), what).toBe((rows + arrived) * 2 * ROW_BYTES);
        expect(bytesOf(profile, 'down'), what).toBe((rows + arrived) * ROW_BYTES);
        const kinds = Object.keys(counts(profile)).filter((name) => name !== 'sum_partials');
        if (update === 'fused') expect(kinds.sort(), what).toEqual(['down_arriving', 'gate_up_arriving']);
        else {
          const copies = { repack: 'index_select', paired: 'copy_rows', dense: null, indexed: null }[
            strategy
          ];
          expect(kinds.sort(), what).toEqual(['gate_up', 'down', ...(copies ? [copies] : [])].sort());
          if (copies) expect(bytesOf(profile, copies)).toBe(2 * writes * 3 * ROW_BYTES);
        }
        checkSums(profile);
      }
    }));

  it('tells what rows are read from', () =>
    withMLP(
      ctx.device,
      async (mlp, x, y) => {
        const storages = async (strategy: Strategy) => {
          const { dispatches, kernels } = await profileMLP(
            mlp,
            { x, y, mask: even(3), previous: even(4), strategy },
            QUICK,
          );
          expect(kernels.map(({ storage }) => storage).sort()).toEqual(
            dispatches.map(({ storage }) => storage).sort(),
          );
          return dispatches
            .map(({ name, storage }) => `${name.split(' ')[0]} ${storage}`)
            .filter((text) => text !== 'sum_partials buffer');
        };
        expect(await storages('indexed')).toEqual(['gate_up texture', 'down texture']);
        expect(await storages('paired')).toEqual(['copy_rows texture', 'gate_up buffer', 'down buffer']);
      },
      'texture',
    ));

  it('replays to the same result', () =>
    withMLP(ctx.device, async (mlp, x, y) => {
      for (const [strategy, update] of STEPS) {
        const step = { x, y, mask: even(2), previous: even(3), strategy, update };
        await profileMLP(mlp, step, QUICK);
        const profiled = new Float32Array(await readBuffer(ctx.device, y));
        const once = await mlp.forward(
          Float32Array.from({ length: HIDDEN }, (_, i) => Math.cos(i)),
          { mask: even(2), strategy: 'indexed' },
        );
        expect(largestDifference(profiled, once), `${strategy} ${update}`).toBeLessThan(1e-4);
      }
    }));

  it('works without timestamp-query, and says which clock it used', async () => {
    const { device, destroy } = await requestDevice({ adapter: ctx.adapter.name, features: [] });
    try {
      await withMLP(device, async (mlp, x, y) => {
        const profile = await profileMLP(mlp, { x, y, strategy: 'dense' }, QUICK);
        expect(profile.timer).toBe('wall clock less an empty submit');
        expect(profile.dispatches.length).toBeGreaterThan(1);
        expect(profile.wall?.median).toBeGreaterThan(0);
      });
    } finally {
      destroy();
    }
  });

  it('refuses repeats of none', () =>
    withMLP(ctx.device, (mlp, x, y) =>
      expect(profileMLP(mlp, { x, y }, { repeats: 0 })).rejects.toThrow(OptionError),
    ));

  it('reads every byte under the read ceiling', async () => {
    const { device } = ctx;
    const words = Uint32Array.from({ length: 16 * 1000 }, (_, i) => Math.imul(i, 0x9e3779b1));
    const data = storageBuffer(device, 'data', words.byteLength);
    const out = storageBuffer(device, 'sums', 3 * 8 * 4);
    upload(device, data, 0, words);
    // Its last line is not full.
    const memory = new BufferGroup(device);
    const texels = createTexels(memory, 'data', words.byteLength);
    uploadTexels(device, texels, words);
    for (const element of ['word', 'quad', 'block', 'texels', 'texel_block']) {
      const from = element.startsWith('texel') ? texels : data;
      for (const walk of ['grid', 'group', 'lane']) {
        const made = kernel(device, readSum, { slots: { element, walk }, constants: { WORKGROUP: 8 } });
        const encoder = device.createCommandEncoder();
        const pass = encoder.beginComputePass();
        encodeDispatch(pass, { kernel: made, group: made.bind({ data: from, out }), grid: [3, 1, 1] });
        pass.end();
        device.queue.submit([encoder.finish()]);
        const sums = new Uint32Array(await readBuffer(device, out));
        expect(readSumTwin(sums), `${element} ${walk}`).toBe(readSumTwin(words));
      }
    }
    // Of lists every row that is in one, once; the last four of 3 workgroups are not four.
    const [ROW, EVERY] = [12, 10];
    const whole = new Uint32Array(4 * 4096);
    whole.set(words);
    for (const element of ['quad', 'texels']) {
      const made = kernel(device, readRows, { slots: { element }, constants: { WORKGROUP: 8, ROW, EVERY } });
      const sums = storageBuffer(device, 'sums', 3 * EVERY * 8 * 4);
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      const group = made.bind({ data: element === 'quad' ? data : texels, out: sums });
      encodeDispatch(pass, { kernel: made, group, grid: [3 * EVERY, 1, 1] });
      pass.end();
      device.queue.submit([encoder.finish()]);
      const read = new Uint32Array(await readBuffer(device, sums));
      const all = element === 'quad' ? words : whole;
      expect(readSumTwin(read), `rows of ${element}`).toBe(readRowsTwin(all, 4 * ROW, EVERY));
      sums.destroy();
    }
    data.destroy();
    out.destroy();
    memory.destroy();
  });
});

describeAdapters('profile of a model', (ctx) => {
  const LAYERS = 2;
  const PROMPT = [3, 14, 15, 9];

  async function withWeights(use: (weights: LlamaWeights) => Promise<void>): Promise<void> {
    const checkpoint = await openCheckpoint(makeModel({ act: 'relu', intermediate: 64, layers: LAYERS }));
    const weights = await loadWeights(ctx.device, checkpoint);
    try {
      await use(weights);
    } finally {
      weights.destroy();
    }
  }

  async function started(weights: LlamaWeights, strategy: Strategy): Promise<LlamaSession> {
    const session = new LlamaSession(ctx.device, weights, { strategy, prefillChunk: 4, planOn: 'host' });
    await session.prefill(PROMPT);
    await session.next(5);
    return session;
  }

  it.each(STRATEGIES)('leaves the session where the step would have: %s', (strategy) =>
    withWeights(async (weights) => {
      const plain = await started(weights, strategy);
      const profiled = await started(weights, strategy);
      // Slabs go their own way, and with them the order in which down sums up.
      const allowed = strategy === 'dense' || strategy === 'indexed' ? 0 : 1e-5;
      const profile = await profileModel(profiled, 7, QUICK);
      expect(largestDifference(profile.logits, await plain.next(7))).toBeLessThanOrEqual(allowed);
      expect(profile.position).toBe(PROMPT.length + 1);
      expect(profiled.position).toBe(plain.position);
      expect(profiled.lastStep).toEqual(plain.lastStep);
      for (const id of [8, 2, 30]) {
        expect(largestDifference(await profiled.next(id), await plain.next(id))).toBeLessThanOrEqual(allowed);
      }

      const { kvHeads, headDim, hiddenSize, vocabSize } = weights.config;
      const found = counts(profile);
      const copy = { repack: 'index_select', paired: 'copy_rows', dense: null, indexed: null }[strategy];
      expect(found).toMatchObject({ embed: 1, attention: LAYERS, down: LAYERS });
      if (copy) expect(found).toMatchObject({ [copy]: LAYERS, mask_values: LAYERS });
      else expect(found).toMatchObject({ gate_up_active: LAYERS });
      expect(bytesOf(profile, 'attention')).toBe(2 * (PROMPT.length + 2) * kvHeads * headDim * 4);
      expect(bytesOf(profile, 'linear head')).toBe(vocabSize * hiddenSize * 4);
      const active = profile.step.active ?? weights.layers.map(({ mlp }) => mlp.rows);
      const downs = profile.dispatches.filter(({ name }) => name.startsWith('down'));
      expect(downs.map(({ bytes }) => bytes)).toEqual(active.map((rows) => rows * hiddenSize * 4));
      checkSums(profile);
      plain.destroy();
      profiled.destroy();
    }),
  );

  it('refuses a context that is full, and frees what it made', () =>
    withWeights(async (weights) => {
      const session = await started(weights, 'dense');
      await profileModel(session, 1, QUICK);
      const held = gpuBytes(ctx.device);
      await profileModel(session, 1, QUICK);
      expect(gpuBytes(ctx.device)).toBe(held);
      while (session.position + 1 < weights.context) await session.next(1);
      await expect(profileModel(session, 1, QUICK)).rejects.toThrow(ShapeError);
      expect(() => session.reset(weights.context + 1)).toThrow(OptionError);
      session.destroy();
    }));
});

describe('recording pass', () => {
  it('writes down dispatches without a device, and refuses what it could not replay', () => {
    const recorded: RecordedDispatch[] = [];
    const pass = new RecordingPass(recorded);
    const [pipeline, group] = [{ label: 'p' }, { label: 'g' }] as [GPUComputePipeline, GPUBindGroup];
    expect(() => pass.dispatchWorkgroups(1)).toThrow(OptionError);
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(3, 2);
    pass.end();
    expect(recorded).toEqual([{ pipeline, group, grid: [3, 2, 1], bound: undefined }]);
    expect(() => pass.dispatchWorkgroupsIndirect()).toThrow(OptionError);
    expect(() => pass.setBindGroup(1, group)).toThrow(OptionError);
    expect(() => pass.setBindGroup(0, group, [16])).toThrow(OptionError);
  });
});

describe('pairslab profile', () => {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const run = (...args: string[]): string =>
    execFileSync(process.execPath, [join(root, 'dist/node/cli.js'), 'profile', ...args], {
      cwd: root,
      encoding: 'utf8',
      stdio: 'pipe',
    });
  beforeAll(() => execFileSync(process.execPath, [join(root, 'scripts/build.mjs')], { cwd: root }));

  const figures = {
    timer: expect.any(String),
    repeats: 2,
    kernels: expect.any(Array),
    dispatches: expect.any(Array),
    parts: expect.any(Object),
    empty: expect.any(Object),
    device: expect.any(Object),
    wall: expect.any(Object),
    overheadPerDispatch: expect.any(Number),
    bytes: expect.any(Number),
    gbps: expect.any(Number),
  };

  it('prints one object for the shipped model', () => {
    const found = JSON.parse(run('--strategy', 'indexed', '--repeats', '2', '--no-ceiling', '--json'));
    expect(found).toMatchObject({
      ...figures,
      device: expect.anything(),
      robustness: true,
      strategy: 'indexed',
      dtype: 'f32',
      mode: 'exact',
      position: 32,
      ceilings: null,
    });
    expect(found.logits).toBeUndefined();
    expect(found.kernels[0]).toMatchObject({ name: expect.any(String), ms: { n: 2 }, ofCeiling: null });
  });

  it('prints a table for one MLP, and as one object', () => {
    const args = ['--shape', '64x256', '--strategy', 'paired', '--repeats', '2', '--no-ceiling'];
    const found = JSON.parse(
      run(...args, '--density', '0.5', '--writes', '0.25', '--storage', 'buffer', '--json'),
    );
    const update = { writes: 32 };
    expect(found).toMatchObject({
      ...figures,
      hidden: 64,
      rows: 256,
      active: 128,
      update,
      storage: 'buffer',
    });
    const text = run(...args, '--storage', 'texture');
    expect(text).toMatch(/\(texture\).*rows in textures/s);
    for (const part of ['kernel', 'gate_up', 'down', 'total', 'in one pass', 'wall time', 'robustness on']) {
      expect(text).toContain(part);
    }
  });

  it.each([
    ['an impossible shape', ['--shape', '64'], /HIDDENxROWS/],
    ['a model and a shape', ['--shape', '8x8', '--model', 'x'], /OptionError: give one of/],
    ['no context', ['--position', '0'], /OptionError: --position must be 1 or more/],
    ['too much context', ['--position', '255'], /ShapeError: --position 255 .* context of 256/],
    [
      'a density beyond 1',
      ['--shape', '8x8', '--density', '2'],
      /OptionError: --density must be from 0 to 1/,
    ],
  ])('refuses %s', (_, args, message) => {
    expect(() => run(...args)).toThrow(message);
  });
});
