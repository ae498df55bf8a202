import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { describePage, ROOT } from './support/describe-page.js';
import { serveFolder } from './support/serve-folder.js';

const STATESMAN = join(ROOT, 'demo/models/statesman');
const { prompts } = JSON.parse(readFileSync(join(STATESMAN, 'reference.json'), 'utf8')) as {
  prompts: { prompt: string; tokens: number[]; text: string }[];
};
const [{ prompt, text }, second] = prompts;
/** A chat of one message is its text as it stands, so that the reference's answer is known. */
const TEMPLATE = '{% for message in messages %}{{ message.content }}{% endfor %}';
const chatting = JSON.stringify({
  ...(JSON.parse(readFileSync(join(STATESMAN, 'tokenizer_config.json'), 'utf8')) as object),
  chat_template: TEMPLATE,
});
const server = serveFolder('/org/statesman/resolve/main/', STATESMAN, { 'tokenizer_config.json': chatting });

type Texts = { generated_text: string }[];

describePage(
  'transformers.js',
  'transformers.ts',
  (page) => {
    it('generates texts, streams them, and gives them in its shapes', async () => {
      await page.call('open', '/org/statesman/resolve/main/');
      const found = await page.call<{ full: Texts; rest: Texts; many: Texts[]; streamed: string }>(
        'texts',
        [prompt, second.prompt],
        12,
      );
      const [{ generated_text: whole }] = found.full;
      expect(whole.startsWith(prompt)).toBe(true);
      expect(text.startsWith(whole.slice(prompt.length))).toBe(true);
      expect(whole.length).toBeGreaterThan(prompt.length + 20);
      expect(found.rest).toEqual([{ generated_text: whole.slice(prompt.length) }]);
      expect(found.streamed).toBe(whole);
      expect(found.many).toHaveLength(2);
      expect(text.startsWith(found.many[0][0].generated_text)).toBe(true);
      expect(second.text.startsWith(found.many[1][0].generated_text)).toBe(true);
    });

    it('samples, the same for the same seed', async () => {
      const { first, again, other } = await page.call<Record<string, Texts>>('sampled', prompt);
      expect(again).toEqual(first);
      expect(other).not.toEqual(first);
    });

    it('stops when it is told to', async () => {
      const { count, length, early } = await page.call<{ count: number; length: number; early: string }>(
        'stopped',
        prompt,
      );
      // The prompt, two tokens and at most one that was under way; and the end.
      expect(count).toBeLessThanOrEqual(1004);
      expect(count).toBeGreaterThanOrEqual(1003);
      expect(length).toBeGreaterThan(prompt.length);
      expect(early).toBe('before it began');
    });

    it('refuses what it would have to leave out, and says what is missing', async () => {
      expect(await page.call('refusals', prompt)).toMatchObject({
        beams: expect.stringMatching(/^OptionError: num_beams is not supported/),
        temperature: expect.stringMatching(/^OptionError: temperature is 0/),
        input: expect.stringMatching(/^OptionError: the input must be/),
        task: expect.stringMatching(/^OptionError: task "fill-mask"/),
        name: expect.stringMatching(/^OptionError: "http:\/\/" is neither/),
        repo: expect.stringMatching(/^PoolError: .*there is no such model/),
        revision: expect.stringMatching(/^PoolError: .*there is no such model/),
      });
      expect(await page.call('close')).toBe(0);
    });

    it('goes on with the same text when the GPU process crashes', async () => {
      const found = await page.call<{ text: string; lost: string[] }>(
        'crash',
        '/org/statesman/resolve/main/',
        prompt,
        96,
      );
      expect(found.lost).toEqual(['DeviceLostError']);
      expect(found.text.startsWith(text)).toBe(true);
    });

    it('loads by repo id, by ranges, and the second time from what the browser keeps; answers a chat', async () => {
      const { runs, prompt: rendered } = await page.call<{
        runs: { percent: number; text: string; streamed: string; requests: string[] }[];
        prompt: string;
      }>('chat', 'org/statesman');
      expect(rendered).toBe(prompt);
      const weights = ({ requests }: { requests: string[] }) =>
        requests.filter((request) => request.includes('model.safetensors') && !request.endsWith('bytes=0-0'));
      for (const run of runs) {
        expect(run.percent).toBe(100);
        expect(run.text.length).toBeGreaterThan(20);
        expect(text.startsWith(run.text)).toBe(true);
        expect(run.streamed).toBe(run.text);
        expect(weights(run).every((request) => / bytes=\d+-\d+$/.test(request))).toBe(true);
      }
      expect(weights(runs[0]).length).toBeGreaterThan(30);
      expect(weights(runs[1])).toEqual([]);
    });
  },
  {
    crashes: true,
    route(request, response) {
      if (request.url === '/seen') {
        response.end(JSON.stringify(server.seen));
        return true;
      }
      return server.route(request, response);
    },
  },
);
