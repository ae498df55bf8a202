import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readTrace } from '../../src/node/trace-file.js';
import { planUpdate, SlotMap } from '../../src/plan/index.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const model = join(root, 'demo/models/statesman');
const shipped = join(root, 'bench/traces/statesman.trace.gz');
const measured = join(root, 'bench/traces/statesman-measured.trace.gz');

describe('pairslab trace', () => {
  let folder: string;
  beforeAll(() => {
    execFileSync(process.execPath, [join(root, 'scripts/build.mjs')], { cwd: root });
    folder = mkdtempSync(join(tmpdir(), 'pairslab-trace-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const run = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [join(root, 'dist/node/cli.js'), 'trace', ...args],
      { encoding: 'utf8', maxBuffer: 1 << 28 },
    );
    return { status, out: stdout, err: stderr };
  };

  it.each([
    ['neither model nor trace', [], /one of --model DIR.*--replay FILE/],
    ['both', ['--model', model, '--replay', shipped], /one of --model/],
    ['nothing to run on', ['--model', model], /--prompt TEXT, --text FILE/],
    ['a policy without a budget', ['--replay', shipped, '--policy', 'lru'], /needs --budget/],
    ['a budget that is none', ['--replay', shipped, '--budget', 'some'], /OptionError: "some" is no budget/],
    ['a budget of less than a row', ['--replay', shipped, '--budget', '1kB'], /8192 bytes is the least/],
    [
      'a policy that is none',
      ['--replay', shipped, '--budget', '25%', '--policy', 'mru'],
      /"mru" is unknown/,
    ],
    ['pinned by nothing', ['--replay', shipped, '--budget', '25%', '--policy', 'pinned'], /give counts/],
    ['a trace that is none', ['--replay', join(model, 'config.json')], /TraceError: .*cannot be unpacked/],
    ['no file', ['--replay', '/nowhere'], /ENOENT/],
  ])('refuses %s', (_, args, message) => {
    const { status, err } = run(...args);
    expect(err).toMatch(message);
    expect(status).toBe(1);
  });

  it('replays the shipped trace: every step, every policy', async () => {
    const steps = join(folder, 'steps.jsonl');
    const args = ['--replay', shipped, '--measured', measured, '--budget', '25%'];
    const names = ['packed', 'lru', 'lfu:0.98', 'pinned:0.25', 'adaptive'];
    const { status, out } = run(
      ...args,
      ...names.flatMap((name) => ['--policy', name]),
      '--steps',
      steps,
      '--json',
    );
    expect(status).toBe(0);
    const { policies, slots, beladyLoads, layers } = JSON.parse(out);
    expect(slots).toEqual([384, 384, 384, 384]);
    expect(policies.map((one: { policy: string }) => one.policy)).toEqual(names);
    const trace = await readTrace(shipped);
    const active = trace.words.reduce((sum, word) => sum + word.toString(2).replaceAll('0', '').length, 0);
    for (const one of policies) {
      expect(one.active).toBe(active);
      expect(one.hits + one.loads).toBe(active);
      expect(one.uploadBytes).toBe(one.loads * 2048);
      expect(one.versusBelady).toBeCloseTo(one.loads / beladyLoads, 12);
      expect(one.versusBelady).toBeGreaterThan(1);
    }
    const at = (name: string) => policies[names.indexOf(name)].versusBelady;
    // The floor of the issue, and what each is for.
    expect(at('adaptive')).toBeLessThan(1.55);
    expect(at('adaptive')).toBeLessThan(at('lfu:0.98'));
    expect(at('lfu:0.98')).toBeLessThan(at('lru'));
    expect(layers).toHaveLength(4);

    const lines = readFileSync(steps, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines).toHaveLength(trace.steps * 4);
    expect(lines.reduce((sum, line) => sum + line.uploadBytes, 0)).toBe(policies[0].uploadBytes);
    const map = new SlotMap(1536, 1536);
    for (const [step, mask] of trace.layer(2).entries()) {
      const plan = planUpdate(map, mask);
      const { added, removed, minimum, layer, active } = lines[step * 4 + 2];
      expect([layer, active, added, removed, minimum]).toEqual([
        2,
        mask.count(),
        plan.added.length,
        plan.removed.length,
        plan.minimum,
      ]);
      map.commit(plan);
    }
    const table = run(...args, '--policy', 'lru');
    expect(table.out).toMatch(/offline optimum uploads 149\.8 KiB a token/);
    expect(table.out).toMatch(/lru +│ 48\.8 %/);
  });

  it('records what it says: sequences, steps, and where it came from', async () => {
    const file = join(folder, 'a.trace.gz');
    const text = join(folder, 'text.txt');
    writeFileSync(text, 'To the Senate and House of Representatives: In transmitting to you this message.');
    const args = ['--model', model, '--no-autotune', '--out', file];
    const { status, out, err } = run(
      ...args,
      '--prompt',
      'My fellow',
      '--max-tokens',
      '4',
      '--text',
      text,
      '--tokens',
      '3',
      '--json',
    );
    expect(status, err).toBe(0);
    const trace = await readTrace(file);
    // The first generated token comes from the prefill.
    expect(trace.info).toMatchObject({
      model: 'statesman',
      mode: 'exact',
      dtype: 'f32',
      rowBytes: 2048,
      rows: 1536,
      layers: 4,
    });
    expect(trace.info.sequences.map(({ steps }) => steps)).toEqual([3, 3]);
    expect(JSON.parse(out).info).toEqual(trace.info);
    for (let layer = 0; layer < 4; layer++) {
      for (const mask of trace.layer(layer)) expect(mask.count()).toBeLessThan(1536);
    }
    expect(trace.layer(0).every((mask) => mask.count() > 0)).toBe(true);
  });
});
