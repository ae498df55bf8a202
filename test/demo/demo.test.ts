/** The demo in headless Chromium on SwiftShader, driven as a user would. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readBenchFile } from '../../src/node/report/read.js';
import { STATESMAN } from '../llama/node-folder.js';
import { chromiumMissing, isCrashNote } from '../support/chromium.js';
import { coloursOf, DemoSite, screenshot } from '../support/demo-page.js';
import { HOSTILE, ModelServer } from './model-server.js';

interface Reference {
  prompts: { prompt: string; tokens: number[]; text: string }[];
}
const reference = JSON.parse(await readFile(`${STATESMAN}reference.json`, 'utf8')) as Reference;
const [{ prompt, tokens, text }] = reference.prompts;

const missing = chromiumMissing();
const WIDE = { viewport: { width: 1360, height: 900 } };

const ready = (page: Page) => page.locator('#status', { hasText: 'Ready' }).waitFor();
/** Asks for as many tokens as the reference has, and waits for their end. */
async function write(page: Page): Promise<void> {
  await page.fill('#prompt', prompt);
  await page.fill('#max-tokens', String(tokens.length));
  await page.click('#write');
}
async function tokensFrom(page: Page, count: number): Promise<void> {
  const reached = (n: number) => Number(document.getElementById('tokens')?.textContent) >= n;
  await page.waitForFunction(reached, count);
}
const ended = (page: Page) => page.locator('#ended', { hasText: /\w/ }).waitFor();
const figure = (page: Page, id: string) => page.textContent(`#chart-${id} output`);
const number = (words: string | null) => Number.parseFloat(words ?? '');

describe.skipIf(missing !== null)(`the demo${missing ? `: skipped, ${missing}` : ''}`, () => {
  let site: DemoSite;
  beforeAll(async () => {
    site = await DemoSite.start();
  });
  afterAll(() => site?.close());

  it('writes what Node writes, with slabs and figures to be seen', async () => {
    const { page, complaints } = await site.open('', { ...WIDE, colorScheme: 'dark' });
    await ready(page);
    expect(await page.textContent('#model-name')).toContain('4 layers');
    const before = await coloursOf(page, '#canvas');
    await write(page);
    await ended(page);
    expect(await page.textContent('#written')).toBe(text);
    expect(await page.textContent('#asked')).toBe(prompt);
    expect(await page.textContent('#ended')).toBe('length');
    expect(await page.textContent('#tokens')).toBe(String(tokens.length));
    expect(number(await page.textContent('#first-token'))).toBeGreaterThan(0);
    expect(number(await page.textContent('#rate'))).toBeGreaterThan(0);
    // Rows were written, so there are more colours than empty cells have.
    const after = await coloursOf(page, '#canvas');
    expect(before).toBeGreaterThan(1);
    expect(after).toBeGreaterThan(before);
    expect(number(await figure(page, 'rate'))).toBeGreaterThan(0);
    const active = number(await figure(page, 'active'));
    expect(active).toBeGreaterThan(0);
    expect(active).toBeLessThan(768);
    const writes = number(await figure(page, 'writes'));
    const hits = number(await figure(page, 'hits')) / 100;
    expect(writes).toBeGreaterThan(0);
    // A row that was there is not written, unless it moves to the front.
    expect(writes).toBeGreaterThanOrEqual(1 - hits - 0.01);
    expect(writes).toBeLessThanOrEqual(1);
    expect(await page.locator('#chart-bytes .key b').allTextContents()).toEqual(
      expect.arrayContaining([await figure(page, 'bytes')]),
    );
    await page.waitForTimeout(200);
    await screenshot(page, 'dark');
    expect(complaints).toEqual([]);
    await page.context().close();
  });

  it('goes on with the same tokens through every switch', async () => {
    const { page, complaints } = await site.open('', { ...WIDE, colorScheme: 'light' });
    await ready(page);
    await write(page);
    const [strategy, budget, dtype] = ['#strategy', '#budget', '#dtype'];
    await tokensFrom(page, 2);
    await page.selectOption(strategy, 'repack');
    await tokensFrom(page, 8);
    await screenshot(page, 'light');
    await page.selectOption(budget, '25');
    await tokensFrom(page, 16);
    // Under a budget nothing is read where it lies.
    expect(await page.locator('#strategy option[value=indexed]').isDisabled()).toBe(true);
    await page.selectOption(strategy, 'paired');
    await tokensFrom(page, 24);
    await page.selectOption(budget, '100');
    await page.selectOption(dtype, 'f16');
    await page.selectOption(strategy, 'indexed');
    await ended(page);
    expect(await page.textContent('#written')).toBe(text);
    expect(await page.isVisible('#no-slab')).toBe(true);
    await page.selectOption('#mode', 'threshold');
    await page.locator('#sparsity').fill('98.5');
    await write(page);
    await ended(page);
    expect(await page.isVisible('#error')).toBe(false);
    // At most 1.5 % of 1536 rows on the text that it was found on: not many more on another.
    expect(number(await figure(page, 'active'))).toBeLessThan(100);
    // Nothing is written where rows are read where they lie.
    expect(await figure(page, 'writes')).toBe('none here');
    expect(complaints).toEqual([]);
    await page.context().close();
  });

  it('is used by keyboard, and on a phone', async () => {
    const { page, complaints } = await site.open('', {
      viewport: { width: 390, height: 844 },
      hasTouch: true,
      colorScheme: 'dark',
    });
    await ready(page);
    await page.focus('#prompt');
    await page.fill('#max-tokens', '12');
    await page.press('#prompt', 'Control+Enter');
    await ended(page);
    await page.focus('#canvas');
    await page.keyboard.press('Shift+ArrowRight');
    await page.locator('#tip', { hasText: /^layer 0, slot 0: row \d+, written/ }).waitFor();
    await page.keyboard.press('Shift+ArrowRight');
    await page.locator('#tip', { hasText: /^layer 0, slot 1:/ }).waitFor();
    const still = await page.locator('#names span').first().getAttribute('style');
    await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('+');
    await expect.poll(() => page.locator('#names span').first().getAttribute('style')).not.toBe(still);
    await page.keyboard.press('0');
    await page.keyboard.press('Escape');
    await expect.poll(() => page.textContent('#tip')).toBe('');
    // Nothing is wider than the screen.
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
    await screenshot(page, 'phone');
    await page.uncheck('#view-on');
    expect(await page.isVisible('#canvas')).toBe(false);
    await page.click('#write');
    await page.click('#stop');
    await ended(page);
    expect(complaints).toEqual([]);
    await page.context().close();
  });

  it('writes on through crashes of the GPU process, and is there after one while nothing is written', async () => {
    const { page, complaints } = await site.open('', WIDE);
    await ready(page);
    const lost = (words: string) => page.locator('#status', { hasText: words }).waitFor();
    const count = 64;
    await page.fill('#prompt', prompt);
    await page.fill('#max-tokens', String(count));
    await page.click('#write');
    // At the first tokens, right after the first recovery, and later.
    for (const [after, words] of Object.entries({ 2: 'lost once', 3: 'lost 2 times', 30: 'lost 3 times' })) {
      await tokensFrom(page, Number(after));
      await site.crashGpu();
      await lost(words);
      await page.locator('#status', { hasText: 'on another' }).waitFor();
    }
    await ended(page);
    const written = await page.textContent('#written');
    expect(written?.startsWith(text)).toBe(true);
    expect(await page.textContent('#tokens')).toBe(String(count));
    expect(await page.textContent('#status')).toMatch(/lost 3 times; the text went on on another\.$/);
    expect(await page.isVisible('#error')).toBe(false);
    await site.crashGpu();
    await lost('lost 4 times; the model is on another');
    await page.fill('#max-tokens', '16');
    await page.click('#write');
    await page.locator('#ended', { hasText: 'length' }).waitFor();
    expect(written?.startsWith((await page.textContent('#written')) ?? '-')).toBe(true);
    expect(await page.textContent('#status')).not.toContain('lost');
    // The view went along: rows that were written since are seen.
    expect(await coloursOf(page, '#canvas')).toBeGreaterThan(10);
    expect(complaints.filter((complaint) => !isCrashNote(complaint))).toEqual([]);
    await page.context().close();
  });

  it('draws nothing while nobody sees it, and writes on', async () => {
    const { page, complaints } = await site.open(
      '',
      { viewport: { width: 390, height: 500 } },
      async (fresh) => {
        // A headless Chromium's pages are always visible. The document says what it is told to; frames come as ever, so
        // that a picture that should not be drawn would be.
        await fresh.addInitScript(`{
        const { getCurrentTexture } = GPUCanvasContext.prototype;
        const asked = requestAnimationFrame;
        let state = 'visible';
        Object.assign(globalThis, {
          pictures: 0,
          frames: 0,
          requestAnimationFrame: (then) => (frames++, asked(then)),
          show(to) {
            state = to;
            document.dispatchEvent(new Event('visibilitychange'));
          },
        });
        GPUCanvasContext.prototype.getCurrentTexture = function () {
          pictures++;
          return getCurrentTexture.call(this);
        };
        Object.defineProperty(Document.prototype, 'visibilityState', { get: () => state });
        Object.defineProperty(Document.prototype, 'hidden', { get: () => state === 'hidden' });
      }`);
      },
    );
    const seen = (): Promise<[number, number]> => page.evaluate('[pictures, frames]');
    /** A text, asked for without a click, which would scroll. */
    const writeUnseen = async (): Promise<void> => {
      const before = await seen();
      await page.evaluate("document.getElementById('ask').requestSubmit()");
      await ended(page);
      expect(await page.textContent('#written')).toBe(text);
      // Not one frame waits to be drawn.
      expect(await seen()).toEqual(before);
    };
    await ready(page);
    await page.fill('#prompt', prompt);
    await page.fill('#max-tokens', String(tokens.length));
    const canvas = page.locator('#canvas');
    await canvas.scrollIntoViewIfNeeded();
    await expect.poll(async () => (await seen())[0]).toBeGreaterThan(0);
    await page.evaluate("show('hidden')");
    await writeUnseen();
    const [hidden] = await seen();
    await page.evaluate("show('visible')");
    await expect.poll(async () => (await seen())[0]).toBeGreaterThan(hidden);
    // Scrolled away.
    await page.evaluate('scrollTo(0, 0)');
    const outside = `new Promise((resolve) => new IntersectionObserver(([{ isIntersecting }]) =>
      resolve(!isIntersecting)).observe(document.getElementById('canvas')))`;
    expect(await page.evaluate(outside)).toBe(true);
    await expect.poll(async () => page.evaluate(outside)).toBe(true);
    await writeUnseen();
    const [away] = await seen();
    await canvas.scrollIntoViewIfNeeded();
    await expect.poll(async () => (await seen())[0]).toBeGreaterThan(away);
    expect(complaints).toEqual([]);
    await page.context().close();
  });

  it('says so where there is no WebGPU', async () => {
    const { page, complaints } = await site.open('', {}, async (fresh) => {
      await fresh.addInitScript(
        'Object.defineProperty(Navigator.prototype, "gpu", { get: () => undefined })',
      );
    });
    await page.locator('#unsupported').waitFor();
    expect(await page.textContent('#unsupported')).toContain('no WebGPU');
    expect(await page.isVisible('#app')).toBe(false);
    await screenshot(page, 'unsupported');
    expect(complaints).toEqual([]);
    await page.context().close();
  });

  describe('with models from elsewhere', () => {
    let server: ModelServer;
    beforeAll(async () => {
      server = await ModelServer.start();
    });
    afterAll(() => server?.close());

    it('shows what is wrong with a hostile one, and keeps the one before', async () => {
      const { page } = await site.open('', WIDE);
      await ready(page);
      const refused = async (folder: string): Promise<string> => {
        await page.fill('#address', folder.includes(':') ? folder : server.url(folder));
        await page.click('#fetch button[type=submit]');
        await page.locator('#error').waitFor();
        const said = await page.textContent('#error p');
        await page.click('#error-close');
        return said ?? '';
      };
      expect(await refused('lying-length')).toMatch(/^ModelFormatError .*1099511627776/);
      expect(await refused('lying-offsets')).toMatch(/^ModelFormatError /);
      expect(await refused('html-weights')).toMatch(/^ModelFormatError /);
      expect(await refused('html-config')).toMatch(/^ModelFormatError .*not JSON/);
      expect(await refused('ten-gb')).toMatch(/^PoolError .*10737418240 bytes/);
      expect(await refused('ten-gb-tokenizer')).toMatch(/^ModelFormatError .*10737418240 bytes/);
      expect(await refused('no-model')).toMatch(/^ModelFormatError .*config\.json/);
      expect(await refused('ftp://somewhere/')).toMatch(/^OptionError /);
      await page.setInputFiles('#files', [`${STATESMAN}tokenizer.json`]);
      await page.locator('#error', { hasText: 'ModelFormatError' }).waitFor();
      await write(page);
      await ended(page);
      expect(await page.textContent('#written')).toBe(text);
      // A good one, of files that are chosen.
      const names = ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'];
      await page.setInputFiles(
        '#files',
        names.map((name) => `${STATESMAN}${name}`),
      );
      await page.locator('#model-name', { hasText: 'your files' }).waitFor();
      expect(await page.isVisible('#error')).toBe(false);
      await write(page);
      await ended(page);
      expect(await page.textContent('#written')).toBe(text);
      await page.context().close();
    });

    it('shows a tokenizer’s markup as text', async () => {
      const { page } = await site.open(`?model=${encodeURIComponent(server.url('script'))}`, WIDE);
      await ready(page);
      await write(page);
      await ended(page);
      const written = (await page.textContent('#written')) ?? '';
      expect(written.startsWith(HOSTILE)).toBe(true);
      expect(await page.locator('#text img, #text script').count()).toBe(0);
      expect(await page.evaluate('window.pwned')).toBeUndefined();
      await page.context().close();
    });
  });

  it('has a strict policy, in the page and in the header', async () => {
    const response = await fetch(site.url);
    const header = response.headers.get('content-security-policy') ?? '';
    const html = (await response.text()).replaceAll('&#39;', "'");
    for (const rule of ["default-src 'none'", "script-src 'self'", "require-trusted-types-for 'script'"]) {
      expect(header).toContain(rule);
      expect(html.includes(rule), rule).toBe(true);
    }
    expect(header).toContain("frame-ancestors 'none'");
    expect(/<script(?![^>]*\bsrc=)|\son\w+=|style="/.exec(html)?.[0]).toBeUndefined();
    expect(/(?:src|href)="https?:/.exec(html)?.[0]).toBeUndefined();
  });

  it('measures in the tab, and gives the file that a bench writes', async () => {
    const { page, complaints } = await site.open('bench.html', WIDE);
    await page.uncheck('#suite-mlp');
    await page.click('#run');
    await page.locator('#status', { hasText: 'Done' }).waitFor({ timeout: 100_000 });
    await screenshot(page, 'bench');
    const coming = page.waitForEvent('download');
    await page.click('#save');
    const folder = await mkdtemp(join(tmpdir(), 'pairslab-demo-'));
    try {
      const file = join(folder, 'bench.json');
      await (await coming).saveAs(file);
      const { conditions, results, summary } = await readBenchFile(file);
      expect(conditions).toMatchObject({ adapter: 'swiftshader', robustness: 'on', grid: 'quick' });
      expect(results.length).toBeGreaterThan(12);
      expect(summary.get('update.k16.speedup_vs_repack')).toBeGreaterThan(0);
    } finally {
      await rm(folder, { recursive: true });
    }
    expect(complaints).toEqual([]);
    await page.context().close();
  });
});
