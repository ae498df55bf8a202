import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { describePage, ROOT } from './support/describe-page.js';
import { serveFolder } from './support/serve-folder.js';

const STATESMAN = join(ROOT, 'demo/models/statesman');
const { prompts } = JSON.parse(readFileSync(join(STATESMAN, 'reference.json'), 'utf8')) as {
  prompts: { prompt_ids: number[]; tokens: number[] }[];
};
const [{ prompt_ids: promptIds, tokens: expected }, next] = prompts;
const server = serveFolder('/model/', STATESMAN);

describePage(
  'a worker',
  'worker.ts',
  (page) => {
    it('loads a model over HTTP, by ranges', async () => {
      const { shares, config } = await page.call<{ shares: number[]; config: object }>('open', '/model/');
      expect(shares.length).toBeGreaterThan(30);
      expect(shares.at(-1)).toBe(1);
      expect(config).toMatchObject({ vocabSize: 2048 });
      expect(server.seen.every((request) => request.includes('bytes='))).toBe(true);
    });

    it('generates the reference tokens, and hands them out as they come', async () => {
      const found = await page.call<Record<string, unknown>>('generate', promptIds, 12);
      expect(found.tokens).toEqual(expected.slice(0, 12));
      expect(found.streamed).toEqual(found.tokens);
      const second = await page.call<Record<string, unknown>>('generate', next.prompt_ids, 6);
      expect(second.tokens).toEqual(next.tokens.slice(0, 6));
    });

    it('stops when it is told to, and goes on with the next', async () => {
      const { tokens, stoppedBy, after } = await page.call<Record<string, unknown>>('abort', promptIds);
      expect(stoppedBy).toBe('abort');
      expect(tokens).toBeLessThan(100);
      expect(after).toEqual(expected.slice(0, 4));
      await page.call('close');
    });

    it('takes dropped files; errors come out as what they are', async () => {
      expect(await page.call('others', '/model/')).toMatchObject({
        logits: 2048,
        best: 268,
        aborted: 'the reason',
        missing: expect.stringMatching(/^ModelFormatError: .*config\.json/),
        row: expect.stringMatching(/^RowError: .*2048/),
        closed: expect.stringMatching(/^OptionError: there is no model/),
        waiting: expect.stringMatching(/^WorkerError: the worker was terminated/),
      });
    });

    it('says so when its script cannot be loaded', async () => {
      expect(await page.call('absent', [])).toMatch(/^WorkerError: the worker failed/);
    });
  },
  { runtimes: false, scripts: ['../../../src/worker/start.ts'], route: server.route },
);
