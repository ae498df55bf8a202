import { execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { version } from '../../package.json';
import { convertModel } from '../../src/llama/convert.js';
import { NodeFolder } from '../llama/node-folder.js';
import { FaultServer } from '../support/fault-server.js';
import { MemorySink } from '../support/memory-sink.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const cli = join(root, 'dist/node/cli.js');
const model = join(root, 'demo/models/statesman');
const reference = JSON.parse(readFileSync(join(model, 'reference.json'), 'utf8'));

interface Ended {
  code: number | null;
  out: string;
  err: string;
}

function run(
  args: readonly string[],
  onStart?: (kill: (signal: NodeJS.Signals) => void) => void,
  env: Record<string, string> = {},
): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [cli, ...args], { cwd: root, env: { ...process.env, ...env } });
    let out = '';
    let err = '';
    child.stdout.on('data', (data) => {
      out += data;
      onStart?.((signal) => child.kill(signal));
      onStart = undefined;
    });
    child.stderr.on('data', (data) => {
      err += data;
    });
    child.on('close', (code) => resolve({ code, out, err }));
  });
}

describe('command line', () => {
  let folder: string;

  beforeAll(() => {
    execFileSync(process.execPath, [join(root, 'scripts/build.mjs')], { cwd: root });
    folder = mkdtempSync(join(tmpdir(), 'pairslab-cli-'));
    cpSync(model, folder, { recursive: true });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('explains itself', async () => {
    const help = await run(['--help']);
    expect(help.code).toBe(0);
    for (const command of ['start', 'generate', 'perplexity', 'calibrate', 'info'])
      expect(help.out).toContain(command);
    const generate = await run(['generate', '--help']);
    for (const option of [
      '--prompt-ids',
      '--temperature',
      '--strategy',
      '--mode',
      '--predictor',
      '--sigma',
      '--rows',
      '--sticky',
      '--smooth',
      '--dtype',
      '--storage',
      '--compute',
      '--budget',
      '--policy',
      '--pool',
      '--prefetch',
      '--cache-limit',
      '--no-cache',
      '--adapter',
      '--json',
    ]) {
      expect(generate.out).toContain(option);
    }
  });

  it.each([
    ['an unknown command', ['fly'], /unknown command/],
    [
      'an unknown strategy',
      ['generate', '--model', model, '--strategy', 'swap'],
      /strategy.*Allowed choices are dense, indexed/,
    ],
    [
      'an unknown storage',
      ['generate', '--model', model, '--storage', 'image'],
      /storage.*Allowed choices are buffer, texture, auto/,
    ],
    ['a number that is none', ['generate', '--model', model, '--seed', 'x'], /must be a number/],
    ['no prompt', ['generate', '--model', model], /one of --prompt TEXT and --prompt-ids/],
    [
      'no such folder',
      ['generate', '--model', '/nowhere', '--prompt', 'a'],
      /ModelFormatError: \/nowhere is not a model folder/,
    ],
    [
      'an unknown adapter',
      ['generate', '--model', model, '--prompt', 'a', '--adapter', 'abacus'],
      /AdapterError: .*abacus/,
    ],
    [
      'an id beyond the vocabulary',
      ['generate', '--model', model, '--prompt-ids', '1,99999'],
      /RowError: token 1 is 99999/,
    ],
    [
      'a prompt beyond the context',
      ['generate', '--model', model, '--prompt-ids', '1,2,3', '--context', '2'],
      /ShapeError.*context of 2/,
    ],
    [
      'no thresholds',
      ['generate', '--model', model, '--prompt', 'a', '--mode', 'threshold'],
      /OptionError.*pairslab calibrate/,
    ],
    [
      'no predictor',
      ['generate', '--model', model, '--prompt', 'a', '--mode', 'predict'],
      /OptionError.*pairslab calibrate.*--predictor signs/,
    ],
    [
      'a flag of another mode',
      ['generate', '--model', model, '--prompt', 'a', '--sticky', '0.5'],
      /OptionError: --sticky is for mode topk, not/,
    ],
    [
      'topk of how many',
      ['perplexity', '--model', model, '--text', join(model, 'heldout.txt'), '--mode', 'topk'],
      /OptionError: mode topk needs --rows/,
    ],
    ['no share', ['generate', '--model', model, '--rows', '120%'], /above 0 % and below 100 %/],
    [
      'a rank for thresholds',
      ['calibrate', '--model', model, '--text', join(model, 'heldout.txt'), '--rank', '8'],
      /OptionError: --rank is for a predictor/,
    ],
    [
      'a rank of signs',
      ['calibrate', '--model', model, '--text', 'x', '--predictor', 'signs', '--rank', '8'],
      /OptionError: --rank is for --predictor svd/,
    ],
    [
      'a budget that is none',
      ['generate', '--model', model, '--prompt', 'a', '--budget', '25 percent'],
      /OptionError: "25 percent" is no budget/,
    ],
    [
      'a budget of less than a row of each layer',
      ['generate', '--model', model, '--prompt', 'a', '--budget', '1kB'],
      /OptionError: the budget holds 0 rows.*is the least/,
    ],
    [
      'a pool that is none',
      ['generate', '--model', model, '--prompt', 'a', '--budget', '25%', '--pool', 'ftp://x/'],
      /OptionError: pool "ftp:\/\/x\/" is none.*pairslab convert/,
    ],
    [
      'no model',
      ['generate', '--prompt', 'a', '--budget', '25%', '--pool', 'file'],
      /OptionError: give --model/,
    ],
    [
      'a pinned policy without a trace',
      ['generate', '--model', model, '--prompt', 'a', '--budget', '25%', '--policy', 'pinned'],
      /OptionError.*--hot TRACE/,
    ],
    [
      'a policy without a budget',
      ['generate', '--model', model, '--prompt', 'a', '--policy', 'lru'],
      /OptionError.*--budget 25%/,
    ],
    [
      'an unknown policy',
      ['generate', '--model', model, '--prompt', 'a', '--budget', '25%', '--policy', 'oldest'],
      /OptionError: policy "oldest" is unknown/,
    ],
    [
      'rows in a file that was not converted',
      ['generate', '--model', model, '--prompt', 'a', '--budget', '25%', '--pool', 'file'],
      /OptionError.*pairslab convert/,
    ],
    [
      'a strategy that needs all rows on the device',
      ['generate', '--model', model, '--prompt', 'a', '--budget', '25%', '--strategy', 'indexed'],
      /OptionError.*use paired/,
    ],
    ['a budget for no model', ['info', '--budget', '25%'], /OptionError.*--model DIR/],
    ['no such text', ['perplexity', '--model', model, '--text', '/nowhere.txt'], /ENOENT/],
    [
      'an impossible sparsity',
      ['calibrate', '--model', model, '--text', join(model, 'heldout.txt'), '--sparsity', '1'],
      /OptionError: sparsity/,
    ],
  ])('refuses %s with what to do', async (_, args, message) => {
    const { code, err, out } = await run(args);
    expect(err).toMatch(message);
    expect(code).toBe(1);
    expect(out).toBe('');
  });

  it('refuses a truncated model before it takes a device', async () => {
    const broken = mkdtempSync(join(tmpdir(), 'pairslab-broken-'));
    cpSync(model, broken, { recursive: true });
    writeFileSync(
      join(broken, 'model.safetensors'),
      readFileSync(join(model, 'model.safetensors')).subarray(0, 5000),
    );
    const { code, err } = await run(['generate', '--model', broken, '--prompt', 'a']);
    rmSync(broken, { recursive: true });
    expect(code).toBe(1);
    expect(err).toMatch(/ModelFormatError/);
    expect(err).not.toMatch(/adapter:/);
  });

  it('generates the reference tokens as JSON and as streamed text, and names the adapter', async () => {
    const { prompt, prompt_ids: ids, tokens, text } = reference.prompts[0];
    const count = 6;
    const args = ['generate', '--model', model, '--max-tokens', String(count)];
    const json = await run([...args, '--prompt-ids', ids.join(), '--strategy', 'paired', '--json']);
    expect(json.err).toMatch(/^adapter: (gpu|lavapipe|swiftshader)/m);
    const result = JSON.parse(json.out);
    expect(result.tokens).toEqual(tokens.slice(0, count));
    expect(result.stats).toMatchObject({
      strategy: 'paired',
      mode: 'exact',
      dtype: 'f32',
    });
    // Planned on the device: several tokens share one.
    expect(result.stats.readbacksPerToken).toBeLessThan(1);
    for (const key of [
      'adapter',
      'decodeTokensPerSecond',
      'prefillTokensPerSecond',
      'timeToFirstToken',
      'gpuBytes',
    ]) {
      expect(result.stats[key], key).toBeTruthy();
    }
    expect(result.stats.activeRows).toHaveLength(4);
    expect(result.stats.copiedBytesPerToken).toBeGreaterThanOrEqual(result.stats.minimumBytesPerToken);
    const streamed = await run([...args, '--prompt', prompt]);
    expect(streamed.code).toBe(0);
    expect(streamed.out.trimEnd()).toBe(prompt + result.text);
    expect(text.startsWith(result.text)).toBe(true);
  });

  it('generates the reference tokens under a budget, and says what that took', async () => {
    const { prompt_ids: ids, tokens } = reference.prompts[0];
    const args = ['--model', model, '--budget', '25%', '--json'];
    const more = ['--prompt-ids', ids.join(), '--max-tokens', '12', '--policy', 'lru'];
    const [budgeted, whole, info] = await Promise.all([
      run(['generate', ...args, ...more]),
      run(['generate', '--model', model, '--json', ...more.slice(0, 4)]),
      run(['info', ...args]),
    ]);
    const result = JSON.parse(budgeted.out);
    expect(result.tokens).toEqual(tokens.slice(0, 12));
    const { stats } = result;
    expect(stats).toMatchObject({ strategy: 'paired', budget: { share: 0.25 }, slots: [384, 384, 384, 384] });
    const { residency } = stats;
    expect(residency.hitRate).toBeGreaterThan(0);
    expect(residency.hitRate).toBeLessThan(1);
    expect(residency.uploadedBytes).toBe(residency.uploadedRows * 2048);
    expect(residency.pieces).toBeGreaterThanOrEqual(1);
    // The rest of 1,536 rows a layer is not on the device; the ring may hold as many as one layer's slots.
    const saved = (4 * (1536 - 384) - 384) * 2048;
    expect(stats.gpuBytes).toBeLessThan(JSON.parse(whole.out).stats.gpuBytes - saved + 200_000);
    const { parts, bytes, slots } = JSON.parse(info.out);
    expect(slots).toEqual(stats.slots);
    expect(parts.slabs).toBe(4 * 384 * 2048);
    expect(bytes).toBeLessThan(stats.gpuBytes);
  });

  it('takes model and rows from a server, and the rows from its cache the next time', async () => {
    const { prompt_ids: ids, tokens } = reference.prompts[0];
    const sink = new MemorySink();
    await convertModel(new NodeFolder(model), sink, { dtype: 'f32' });
    const files = [...sink.folder.files].map(([name, bytes]) => [`rows/${name}`, bytes]);
    const server = await FaultServer.start(Object.fromEntries(files));
    try {
      const args = ['generate', '--budget', '25%', '--pool', server.url('rows'), '--json', '--prefetch'];
      // The driver keeps its kernels where it always does: compiling them takes longest.
      const drivers = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
      const env = { XDG_CACHE_HOME: join(folder, 'cache'), MESA_SHADER_CACHE_DIR: drivers };
      // All but the file's first byte, which tells that it is there.
      const reads = () => server.seen.filter(({ path, range }) => path === 'rows/rows.bin' && range?.[1]);
      for (const kept of [false, true]) {
        server.seen.length = 0;
        const { out, err } = await run(
          [...args, '--prompt-ids', ids.join(), '--max-tokens', '12'],
          undefined,
          env,
        );
        expect(JSON.parse(out || '{}').tokens, err).toEqual(tokens.slice(0, 12));
        const { residency } = JSON.parse(out).stats;
        expect(residency.prefetch.usedShare).toBeGreaterThan(0);
        if (kept) expect(reads()).toHaveLength(0);
        else expect(reads().length).toBeGreaterThan(10);
      }
    } finally {
      await server.close();
    }
  });

  it('gives slots by a recorded trace, and pins its hottest rows', async () => {
    const { prompt_ids: ids, tokens } = reference.prompts[0];
    const hot = join(root, 'bench/traces/statesman-measured.trace.gz');
    const args = ['generate', '--model', model, '--json', '--prompt-ids', ids.join(), '--max-tokens', '12'];
    const { out, err } = await run([...args, '--budget', '10%', '--hot', hot, '--policy', 'pinned:0.25']);
    const { tokens: made, stats } = JSON.parse(out || '{}');
    expect(made, err).toEqual(tokens.slice(0, 12));
    // 614 in all; the first layer is the busiest.
    expect(stats.slots.reduce((sum: number, slots: number) => sum + slots, 0)).toBe(614);
    expect(Math.max(...stats.slots)).toBe(stats.slots[0]);
    expect(stats.slots[0]).toBeGreaterThan(stats.slots[1]);
  });

  it('scores a text under a budget as without one', async () => {
    const args = ['perplexity', '--model', model, '--text', join(model, 'heldout.txt'), '--json'];
    const more = ['--tokens', '64', '--window', '64', '--strategy', 'paired'];
    const [budgeted, whole] = await Promise.all([
      run([...args, ...more, '--budget', '10%', '--policy', 'lru']),
      run([...args, ...more]),
    ]);
    expect(JSON.parse(budgeted.out).natsPerToken).toBeCloseTo(JSON.parse(whole.out).natsPerToken, 4);
  });

  it.each([
    ['q8', 0.0075],
    ['q4', 0.083],
    ['bf16', 0],
  ])('takes --dtype %s, and says what quantising cost', async (dtype, worst) => {
    const args = [
      'generate',
      '--model',
      model,
      '--prompt',
      'The people',
      '--max-tokens',
      '4',
      '--dtype',
      dtype,
    ];
    const { out, err } = await run([...args, '--json']);
    const { stats, quantization } = JSON.parse(out);
    expect(stats.dtype).toBe(dtype);
    const errors = Object.entries<{ rmsRelative: number; maxAbsolute: number }>(quantization);
    expect(errors).toHaveLength(worst ? 12 : 0);
    for (const [name, { rmsRelative, maxAbsolute }] of errors) {
      expect(name).toMatch(/^model\.layers\.[0-3]\.mlp\.(gate|up|down)_proj\.weight$/);
      expect(rmsRelative).toBeGreaterThan(worst / 2);
      expect(rmsRelative).toBeLessThan(worst);
      expect(maxAbsolute).toBeGreaterThan(0);
    }
    const line = /^quantised 12 matrices to (q8|q4): rms error .* % on average, .* % at worst \(model.*\)$/m;
    if (worst) expect(err.match(line)?.[1]).toBe(dtype);
    else expect(err).not.toMatch(/quantised/);
  });

  it.each([
    ['an unknown one', ['--dtype', 'f16', '--compute', 'f64'], /Allowed choices are f32, f16/],
    ['f16 over f32', ['--compute', 'f16'], /OptionError: compute f16.*stored as f32\. Use dtype f16/],
    ['f16 over q8', ['--dtype', 'q8', '--compute', 'f16'], /OptionError: compute f16.*stored as q8/],
  ])('refuses to compute in %s, before it takes a device', async (_, flags, message) => {
    const commands = [
      ['generate', '--model', model, '--prompt', 'a'],
      ['perplexity', '--model', model, '--text', join(model, 'heldout.txt')],
      ['start'],
      ['profile'],
      ['profile', '--shape', '32x32'],
    ];
    for (const command of commands) {
      const { code, err } = await run([...command, ...flags]);
      expect(code, command.join(' ')).toBe(1);
      expect(err).toMatch(message);
      expect(err).not.toMatch(/adapter:/);
    }
  });

  it('computes in f16 where the adapter can, and else says what to do', async () => {
    const args = ['generate', '--model', model, '--prompt', 'The people', '--max-tokens', '4', '--json'];
    const { code, out, err } = await run([...args, '--dtype', 'f16', '--compute', 'f16']);
    if (/AdapterError/.test(err)) {
      expect(code).toBe(1);
      expect(err).toMatch(/shader-f16.*Use compute f32/);
      return;
    }
    expect(code).toBe(0);
    expect(JSON.parse(out).stats).toMatchObject({ dtype: 'f16', compute: 'f16' });
  });

  it('keeps rows in the slab as --slab-dtype says, and refuses it where there is no slab', async () => {
    const args = ['generate', '--model', model, '--prompt', 'The people', '--max-tokens', '4', '--json'];
    const packed = await run([...args, '--dtype', 'q8', '--slab-dtype', 'f16', '--strategy', 'paired']);
    expect(packed.err).not.toMatch(/Error/);
    expect(JSON.parse(packed.out).stats).toMatchObject({ dtype: 'q8', slabDtype: 'f16', strategy: 'paired' });
    const { code, err } = await run([...args, '--slab-dtype', 'f16', '--strategy', 'indexed']);
    expect(code).toBe(1);
    expect(err).toMatch(/OptionError: a slab dtype is for slabs: use strategy repack or paired/);
  });

  it('refuses a dtype that there is not', async () => {
    const { code, err } = await run(['generate', '--model', model, '--prompt', 'a', '--dtype', 'q5']);
    expect(code).toBe(1);
    expect(err).toMatch(/Allowed choices are f32, f16, bf16, q8, q4/);
  });

  it('samples the same text from the same seed', async () => {
    const args = [
      'generate',
      '--model',
      model,
      '--prompt',
      'My fellow',
      '--max-tokens',
      '8',
      '--temperature',
      '1',
      '--json',
    ];
    const [a, b, c] = [
      await run([...args, '--seed', '1']),
      await run([...args, '--seed', '1']),
      await run([...args, '--seed', '2']),
    ];
    expect(JSON.parse(a.out).tokens).toEqual(JSON.parse(b.out).tokens);
    expect(JSON.parse(a.out).tokens).not.toEqual(JSON.parse(c.out).tokens);
  });

  it('calibrates, and every strategy then leaves out the same rows', async () => {
    const text = join(model, 'heldout.txt');
    const found = await run([
      'calibrate',
      '--model',
      folder,
      '--text',
      text,
      '--sparsity',
      '0.98',
      '--tokens',
      '256',
      '--json',
    ]);
    const { thresholds, leftOut } = JSON.parse(found.out);
    expect(thresholds).toHaveLength(4);
    for (const share of leftOut) expect(share).toBeGreaterThanOrEqual(0.98);
    const tokens = [];
    for (const strategy of ['dense', 'indexed', 'repack', 'paired']) {
      const args = [
        '--prompt',
        'The people',
        '--max-tokens',
        '8',
        '--mode',
        'threshold',
        '--strategy',
        strategy,
        '--json',
      ];
      tokens.push(JSON.parse((await run(['generate', '--model', folder, ...args])).out).tokens);
    }
    for (const other of tokens) expect(other).toEqual(tokens[0]);
  });

  it('calibrates a predictor, and decodes by it', async () => {
    const text = join(model, 'heldout.txt');
    const file = join(folder, 'low-rank.safetensors');
    const svd = ['--predictor', 'svd', '--rank', '128', '--recall', '0.999', '--out', file];
    const found = await run([
      'calibrate',
      '--model',
      folder,
      '--text',
      text,
      '--tokens',
      '640',
      ...svd,
      '--json',
    ]);
    expect(found.err).not.toMatch(/Error/);
    const { layers } = JSON.parse(found.out);
    expect(layers).toHaveLength(4);
    for (const { massRecall, density } of layers) {
      expect(massRecall).toBeGreaterThan(0.9);
      expect(density).toBeLessThan(0.6);
    }
    const args = ['generate', '--model', folder, '--prompt', 'The people', '--max-tokens', '8', '--json'];
    const predicted = await run([...args, '--mode', 'predict', '--predictor', file]);
    const { tokens, stats } = JSON.parse(predicted.out);
    expect(tokens).toEqual(JSON.parse((await run(args)).out).tokens);
    expect(stats.strategy).toBe('indexed');
  });

  it('scores a text, and says how far a sparse mode is from dense', async () => {
    const args = [
      'perplexity',
      '--model',
      model,
      '--text',
      join(model, 'heldout.txt'),
      '--tokens',
      '64',
      '--window',
      '32',
      '--json',
    ];
    const dense = JSON.parse((await run(args)).out);
    expect(dense.tokens).toBe(64);
    expect(dense.worstDifference).toBeNull();
    const sparse = JSON.parse((await run([...args, '--strategy', 'indexed'])).out);
    expect(sparse.natsPerToken).toBeCloseTo(dense.natsPerToken, 4);
    expect(sparse.worstDifference).toBeLessThan(5e-4);
  });

  it('says its version', async () => {
    for (const flag of ['--version', '-V', '-v'])
      expect(await run([flag])).toEqual({ code: 0, out: `${version}\n`, err: '' });
  });

  it.each([
    ['before it writes', ['info', '--json'], true],
    ['while it writes', ['generate', '--model', model, '--prompt', 'The', '--max-tokens', '250'], false],
  ])('ends without a word when its reader is gone %s', async (_, args, atOnce) => {
    const child = spawn(process.execPath, [cli, ...args], { cwd: root });
    let err = '';
    child.stderr.on('data', (data) => {
      err += data;
    });
    if (atOnce) child.stdout.destroy();
    else child.stdout.once('data', () => child.stdout.destroy());
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect(code).toBe(141);
    expect(err).not.toMatch(/EPIPE|Error|tokens\/s| {4}at /);
  });

  it('lists adapters', async () => {
    const { code, out } = await run(['info', '--json']);
    expect(code).toBe(0);
    const adapters = JSON.parse(out);
    expect(adapters.length).toBeGreaterThan(0);
    for (const adapter of adapters)
      expect(adapter).toMatchObject({ name: expect.any(String), features: expect.any(Array) });
  });

  it('ends at the next token on Ctrl-C, with what it has', async () => {
    const args = [
      'generate',
      '--model',
      model,
      '--prompt',
      'The',
      '--max-tokens',
      '250',
      '--temperature',
      '1',
    ];
    const { code, out, err } = await run(args, (kill) => kill('SIGINT'));
    expect(code).toBe(130);
    expect(out.startsWith('The')).toBe(true);
    expect(err).toMatch(/stopped by abort/);
  });
});
