import { createReadStream, createWriteStream, existsSync } from 'node:fs';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createBrotliDecompress } from 'node:zlib';
import { type Browser, chromium } from 'playwright-core';
import { AdapterError } from '../../src/errors.js';

/** WebGPU on SwiftShader, the only adapter that Chromium offers without a GPU. */
const WEBGPU = [
  '--no-sandbox',
  '--headless=new',
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  '--enable-features=Vulkan',
  // Without it the GPU process ends as soon as a canvas gets its WebGPU context.
  '--use-vulkan=swiftshader',
  '--use-angle=swiftshader',
];

/**
 * For tests that crash the GPU process: without both of them `requestAdapter` gives null after the second crash or a later
 * one, for longer than a test can wait.
 */
export const CRASHABLE = ['--disable-domain-blocking-for-3d-apis', '--disable-gpu-process-crash-limit'];

/** Ends the GPU process, as a driver's bug would: all pages lose their devices. */
export async function crashGpu(browser: Browser): Promise<void> {
  const session = await browser.newBrowserCDPSession();
  try {
    await session.send('Browser.crashGpuProcess');
  } finally {
    await session.detach();
  }
}

/** What the browser prints of itself on a crash. */
export const isCrashNote = (text: string): boolean =>
  /^(A valid external Instance reference no longer exists|Device failed at creation|Failed to create WebGPU Context Provider)/.test(
    text,
  );

/** What is used of tar-fs, which has no types. */
const { extract } = createRequire(import.meta.url)('tar-fs') as {
  extract(folder: string): NodeJS.WritableStream;
};

/** Why the Chromium of `@sparticuz/chromium` cannot run here; null when it can. */
export function chromiumMissing(): string | null {
  const { platform, arch } = process;
  if (platform !== 'linux' || arch !== 'x64') return `it is built for Linux x64; this is ${platform} ${arch}`;
  try {
    archives();
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/**
 * Starts a headless Chromium that has WebGPU, without root and with nothing installed but the npm packages: loader,
 * SwiftShader, NSS and fonts come with it. The first start unpacks them, which takes some seconds and 240 MB.
 * @param args Flags beside those that give it WebGPU.
 * @throws AdapterError where the package is not installed or has no archive for this platform.
 */
export async function launchChromium(args: readonly string[] = []): Promise<Browser> {
  const options = await chromiumOptions();
  return chromium.launch({ ...options, args: [...options.args, ...args] });
}

/** What playwright needs to start it: for those that start it themselves, as vitest does. */
export async function chromiumOptions() {
  const folder = await unpackChromium();
  const libraries = [folder, join(folder, 'lib'), process.env.LD_LIBRARY_PATH].filter(Boolean).join(':');
  return {
    executablePath: join(folder, 'chromium'),
    args: WEBGPU,
    // Of LANG=C it would make the language "en-US@posix", which Intl refuses.
    env: {
      ...process.env,
      LANG: 'en_US.UTF-8',
      LC_ALL: undefined,
      LD_LIBRARY_PATH: libraries,
      FONTCONFIG_FILE: join(folder, FONTS),
    },
  };
}

/** The folder with Chromium and its libraries, in node_modules: an `npm ci` removes it. */
async function unpackChromium(): Promise<string> {
  const { bin, modules } = archives();
  const folder = join(modules, '.chromium');
  if (existsSync(folder)) return folder;
  const partial = await mkdtemp(`${folder}-`);
  try {
    const open = (name: string) => createReadStream(join(bin, name));
    await pipeline(
      open('chromium.br'),
      createBrotliDecompress(),
      createWriteStream(join(partial, 'chromium'), { mode: 0o700 }),
    );
    for (const name of ['swiftshader.tar.br', 'al2023.tar.br', 'fonts.tar.br'])
      await pipeline(open(name), createBrotliDecompress(), extract(partial));
    await writeFile(join(partial, FONTS), fonts(folder));
    try {
      await rename(partial, folder);
    } catch (error) {
      // Another process was faster.
      if (!existsSync(folder)) throw error;
    }
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  return folder;
}

/** The archive's own looks for the fonts where a cloud service has them. */
const FONTS = 'fonts-here.conf';
const fonts = (folder: string): string => `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <include ignore_missing="yes">/etc/fonts/fonts.conf</include>
  <dir>${folder}/fonts</dir>
  <cachedir>${folder}/font-cache</cachedir>
</fontconfig>
`;

/** The package's archives, and the node_modules that it is in. */
function archives(): { bin: string; modules: string } {
  const entry = createRequire(import.meta.url).resolve('@sparticuz/chromium');
  const root = join(dirname(entry), '../..');
  const bin = join(root, 'bin');
  if (!existsSync(join(bin, 'chromium.br')))
    throw new AdapterError(`@sparticuz/chromium has no chromium.br for ${process.platform} ${process.arch}`);
  return { bin, modules: join(root, '../..') };
}
