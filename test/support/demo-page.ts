import { fileURLToPath } from 'node:url';
import { mkdirSync } from 'node:fs';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { build, preview, type PreviewServer } from 'vite';
import { CRASHABLE, crashGpu, launchChromium } from './chromium.js';

const HERE = new URL('../../demo/vite.config.ts', import.meta.url);
const screenshots = fileURLToPath(new URL('../demo/screenshots/', import.meta.url));

/** The demo, built and served as `npm run demo` does, and a Chromium to open it in. */
export class DemoSite {
  readonly url: string;
  private readonly server: PreviewServer;
  private readonly browser: Browser;

  private constructor(server: PreviewServer, browser: Browser) {
    this.server = server;
    this.browser = browser;
    this.url = server.resolvedUrls?.local[0] ?? '';
  }

  /** @param configFile Of the demo, for those that are bundled to another place. */
  static async start(configFile = fileURLToPath(HERE)): Promise<DemoSite> {
    await build({ configFile, logLevel: 'warn' });
    const server = await preview({ configFile, logLevel: 'warn', preview: { port: 0, host: '127.0.0.1' } });
    try {
      return new DemoSite(server, await launchChromium(CRASHABLE));
    } catch (error) {
      await server.close();
      throw error;
    }
  }

  /** A page of the site, with what its console said that it should not. */
  async open(
    path = '',
    options: BrowserContextOptions = {},
    prepare?: (page: Page) => Promise<void>,
  ): Promise<{ page: Page; complaints: string[] }> {
    const context = await this.browser.newContext(options);
    const page = await context.newPage();
    const complaints: string[] = [];
    page.on('pageerror', (error) => complaints.push(`${error.name}: ${error.message}`));
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
    });
    await prepare?.(page);
    await page.goto(this.url + path);
    return { page, complaints };
  }

  /** Ends the browser's GPU process, as a driver's bug would. */
  crashGpu(): Promise<void> {
    return crashGpu(this.browser);
  }

  async close(): Promise<void> {
    await this.browser.close();
    await this.server.close();
  }
}

/** Written to a folder that git ignores. */
export async function screenshot(page: Page, name: string): Promise<void> {
  mkdirSync(screenshots, { recursive: true });
  await page.screenshot({ path: `${screenshots}${name}.png`, fullPage: true });
}

/** How many colours an element's picture has. */
export async function coloursOf(page: Page, selector: string): Promise<number> {
  const png = await page.locator(selector).screenshot();
  // In a page without the site's policy, which forbids data: to scripts.
  const reader = await page.context().newPage();
  try {
    return await reader.evaluate(async (base64) => {
      const blob = new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], { type: 'image/png' });
      const image = await createImageBitmap(blob);
      const context = new OffscreenCanvas(image.width, image.height).getContext('2d');
      if (!context) throw new Error('no 2d context');
      context.drawImage(image, 0, 0);
      return new Set(new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer)).size;
    }, png.toString('base64'));
  } finally {
    await reader.close();
  }
}
