import type { Page } from 'playwright-core';
import { ratioOf, statsOf } from '../../src/tune/stats.js';
import { chromiumMissing } from '../../test/support/chromium.js';
import { DemoSite } from '../../test/support/demo-page.js';
import { inCheckout } from '../lib/checkout.js';
import type { BenchContext, SuiteOutcome } from '../lib/report.js';

/** Tokens between two switches, and how many of them come before the clock starts: what was drawn last is done by then. */
const BLOCK = 24;
const SETTLE = 4;
const PROMPT = 'The state of the Union is';

interface Blocks {
  /** ms a token with the view and without, block by block, each pair side by side. */
  shown: number[];
  hidden: number[];
}

/**
 * What the demo's slab view costs a text: ms a token in the tab with it shown over without, blocks of tokens in turn
 * within one text. Headless Chromium on SwiftShader, the only adapter it has here, where drawing and decoding share the
 * CPU; charts are drawn in both.
 */
export async function viewSuite(context: BenchContext): Promise<SuiteOutcome> {
  const missing = chromiumMissing();
  if (missing) return { results: [], summary: {}, skipped: [{ case: 'view', reason: missing }] };
  const texts = context.full ? 9 : context.quick ? 1 : 4;
  const site = await DemoSite.start(inCheckout('demo/vite.config.ts'));
  const all: Blocks = { shown: [], hidden: [] };
  let cost: string | null = '';
  try {
    const { page } = await site.open('', { viewport: { width: 1360, height: 900 } });
    await page.locator('#status', { hasText: 'Ready' }).waitFor();
    // The first text compiles, and finds out what a picture costs.
    for (let t = -1; t < texts; t++) {
      context.progress(t + 1, texts + 1, 'a text');
      const { shown, hidden } = await oneText(page);
      if (t < 0) continue;
      all.shown.push(...shown);
      all.hidden.push(...hidden);
    }
    cost = await page.textContent('#view-cost');
  } finally {
    await site.close();
  }
  const ratio = ratioOf(all.shown, all.hidden);
  context.log(
    `view: ${ratio.median.toFixed(3)} times as long a token with it, ${all.shown.length} pairs. ${cost}`,
  );
  const row = {
    suite: 'view',
    case: 'demo, paired, f32, Chromium on SwiftShader',
    shownMs: statsOf(all.shown),
    hiddenMs: statsOf(all.hidden),
    ratio,
    said: cost,
  };
  return { results: [row], summary: { 'view.ms_over_hidden': ratio.median }, skipped: [] };
}

async function oneText(page: Page): Promise<Blocks> {
  await page.fill('#prompt', PROMPT);
  await page.fill('#max-tokens', '240');
  return page.evaluate(
    async ({ block, settle }) => {
      const at = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
      const view = at<HTMLInputElement>('view-on');
      const found: { shown: number[]; hidden: number[] } = { shown: [], hidden: [] };
      if (!view.checked) view.click();
      at<HTMLFormElement>('ask').requestSubmit();
      await new Promise<void>((resolve) => {
        let first = 0;
        let began: { token: number; ms: number } | null = null;
        const look = () => {
          const made = Number(at('tokens').textContent);
          if (made > 0 && made >= first + settle && !began) began = { token: made, ms: performance.now() };
          if (began && made >= first + block) {
            found[view.checked ? 'shown' : 'hidden'].push(
              (performance.now() - began.ms) / (made - began.token),
            );
            view.click();
            began = null;
            first = made;
          }
          if (/\w/.test(at('ended').textContent ?? '')) {
            observer.disconnect();
            resolve();
          }
        };
        const observer = new MutationObserver(look);
        for (const id of ['tokens', 'ended'])
          observer.observe(at(id), { childList: true, characterData: true, subtree: true });
      });
      // Pairs only.
      found.shown.length = found.hidden.length = Math.min(found.shown.length, found.hidden.length);
      return found;
    },
    { block: BLOCK, settle: SETTLE },
  );
}
