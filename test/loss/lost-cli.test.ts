/** `pairslab generate` when its device is lost on the way: the same tokens, and stderr says what happened. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { LlamaSession } from '../../src/llama/session.js';
import { type GenerateFlags, runGenerate } from '../../src/node/commands/generate.js';
import { describeAdapters } from '../support/adapters.js';
import { smallModel } from '../support/make-model.js';

describeAdapters('generate on the command line, whose device is lost', (ctx) => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'pairslab-lost-'));
    for (const [name, bytes] of smallModel().files) await writeFile(join(folder, name), bytes);
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await rm(folder, { recursive: true, force: true });
  });

  async function run(): Promise<{ tokens: number[]; stderr: string }> {
    const said = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const)
      vi.spyOn(process[name], 'write').mockImplementation((text) => {
        said[name] += text;
        return true;
      });
    const flags: GenerateFlags = {
      model: folder,
      promptIds: [3, 1, 4, 1, 5],
      maxTokens: 24,
      ...{ temperature: 0.8, topK: 0, topP: 1, seed: 3, strategy: 'auto', compute: 'f32', mode: 'exact' },
      ...{ adapter: ctx.adapter.name, autotune: false, json: true },
    } as GenerateFlags;
    try {
      await runGenerate(flags);
    } finally {
      vi.restoreAllMocks();
    }
    return { tokens: JSON.parse(said.stdout).tokens, stderr: said.stderr };
  }

  it('goes on on another of the same adapter', async () => {
    const expected = await run();
    expect(expected.tokens.length).toBeGreaterThan(5);
    expect(expected.stderr).not.toContain('lost');
    const follow = LlamaSession.prototype.follow;
    let runs = 0;
    vi.spyOn(LlamaSession.prototype, 'follow').mockImplementation(function (this: LlamaSession, ...given) {
      if (++runs === 2) this.device.destroy();
      return follow.apply(this, given);
    });
    const found = await run();
    expect(found.tokens).toEqual(expected.tokens);
    expect(found.stderr.match(/the GPU device was lost \(destroyed\): asking for another/g)).toHaveLength(1);
    expect(found.stderr.match(new RegExp(`adapter: ${ctx.adapter.name}`, 'g'))).toHaveLength(2);
  });
});
