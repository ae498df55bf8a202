import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { constants, homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';

/*
 * Vulkan for a machine that has little of it. Dawn opens `libvulkan.so.1` (the loader), which reads ICD files to find
 * the drivers. A GPU's driver package brings both. Without one, `@sparticuz/chromium` carries a loader and
 * SwiftShader, so that everything runs with nothing installed and no root. Only Linux needs any of this.
 */

type Env = Record<string, string | undefined>;

/** What `prepareDrivers` found and did. A path is absent where there is nothing. */
export interface Drivers {
  /** Where `libvulkan.so.1` comes from; `unneeded` where the platform is not Linux. */
  loader: 'system' | 'bundled' | 'missing' | 'unneeded';
  /** lavapipe's ICD file. */
  lavapipe?: string;
  /** SwiftShader's ICD file, unpacked. */
  swiftshader?: string;
  /** The variable that already said which drivers to use, and so was left alone. */
  chosenBy?: 'VK_DRIVER_FILES' | 'VK_ICD_FILENAMES';
}

/** The folders in which the Vulkan loader looks for ICD files by default. */
const ICD_FOLDERS = [
  join(homedir(), '.local/share/vulkan/icd.d'),
  '/etc/vulkan/icd.d',
  '/usr/local/share/vulkan/icd.d',
  '/usr/share/vulkan/icd.d',
];
const LOADER = 'libvulkan.so.1';
const SWIFTSHADER_ICD = 'vk_swiftshader_icd.json';
const SWIFTSHADER_FILES = [LOADER, 'libvk_swiftshader.so', SWIFTSHADER_ICD];

/**
 * Makes the system's GPUs, lavapipe and SwiftShader visible together, by way of `env`, and sees to it that this
 * process has a Vulkan loader. Drivers that the user chose (VK_DRIVER_FILES, VK_ICD_FILENAMES) stay the only ones.
 * Call it before dawn.node's first `create`; `listAdapters` and `requestDevice` do. Calling it again changes nothing.
 * A worker thread's `process.env` is a copy that no loader sees: there, call it on the main thread first.
 */
export function prepareDrivers(env: Env = process.env): Drivers {
  if (process.platform !== 'linux') return { loader: 'unneeded' };
  const loader = ensureLoader();
  // Set but empty is a choice as well: the loader then offers no driver.
  const chosenBy = (['VK_DRIVER_FILES', 'VK_ICD_FILENAMES'] as const).find((name) => env[name] !== undefined);
  const folder = unpackSwiftShader();
  const swiftshader = folder && join(folder, SWIFTSHADER_ICD);
  if (swiftshader && !chosenBy) {
    const all = 'VK_ADD_DRIVER_FILES';
    if (!loader.path || readFileSync(loader.path).includes(all)) addToList(env, all, swiftshader);
    // Loaders before 1.3.207 (Ubuntu 22.04 has 1.3.204) cannot add to the default search, only replace it.
    // Delete this branch when no supported system has one.
    else addToList(env, 'VK_ICD_FILENAMES', ...icdFiles(), swiftshader);
  }
  return { loader: loader.from, lavapipe: findLavapipe(), swiftshader, chosenBy };
}

function addToList(env: Env, name: string, ...files: string[]): void {
  env[name] = [...new Set([...(env[name]?.split(':') ?? []).filter(Boolean), ...files])].join(':');
}

function icdFiles(folders: readonly string[] = ICD_FOLDERS): string[] {
  return folders.flatMap((folder) => {
    if (!existsSync(folder)) return [];
    return readdirSync(folder)
      .filter((name) => name.endsWith('.json'))
      .sort()
      .map((name) => join(folder, name));
  });
}

/** lavapipe's ICD file, if it is installed. */
export function findLavapipe(folders: readonly string[] = ICD_FOLDERS): string | undefined {
  return icdFiles(folders).find((file) => /\/lvp_icd[^/]*\.json$/.test(file));
}

/** A loaded loader; `path` is the file, where it could be told. */
export interface Loader {
  from: 'system' | 'bundled' | 'missing';
  path?: string;
}

let loaded: Loader | undefined;

/**
 * Opens `libvulkan.so.1` for the whole process: the system's as Dawn would find it, else the one that comes with
 * SwiftShader. Dawn opens the loader by its bare name, and the dynamic linker answers that with a library of the same
 * soname that is already in the process, so a process started without LD_LIBRARY_PATH need not be started again.
 * Tried on Node 20.20 and 24.21 with the system's loader hidden.
 */
export function ensureLoader(): Loader {
  if (loaded) return loaded;
  if (openLibrary(LOADER)) loaded = { from: 'system', path: openedPath() };
  else {
    const folder = unpackSwiftShader();
    const path = folder && join(folder, LOADER);
    loaded = path && openLibrary(path) ? { from: 'bundled', path } : { from: 'missing' };
  }
  return loaded;
}

/**
 * Opens a shared library and leaves it open. `process.dlopen` is made for add-ons: it refuses a library that does not
 * register itself as one, and closes it, but RTLD_NODELETE (not among os.constants) keeps it in the process.
 */
function openLibrary(file: string): boolean {
  const RTLD_NODELETE = 0x1000;
  try {
    process.dlopen({ exports: {} }, file, constants.dlopen.RTLD_NOW | RTLD_NODELETE);
    return true;
  } catch (error) {
    return error instanceof Error && error.message.startsWith('Module did not self-register');
  }
}

function openedPath(): string | undefined {
  try {
    return /\/\S*\/libvulkan\.so\S*$/m.exec(readFileSync('/proc/self/maps', 'utf8'))?.[0];
  } catch {
    return undefined; // no /proc: a new loader is assumed
  }
}

/** The folder with SwiftShader and its loader, unpacked once per user; undefined where the package is not installed. */
export function unpackSwiftShader(env: Env = process.env): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return undefined;
  const source = swiftShaderArchive();
  if (!source) return undefined;
  const name = `swiftshader-${source.version}`;
  const places = [
    join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'pairslab'),
    join(tmpdir(), `pairslab-${process.getuid?.()}`),
  ];
  for (const place of places) {
    try {
      mkdirSync(place, { recursive: true, mode: 0o700 });
      if (!isOurs(place)) continue;
      const folder = join(place, name);
      if (!isComplete(folder)) unpack(source.archive, place, folder);
      return folder;
    } catch (error) {
      // Not writable, full, or read-only: the next place.
      if (!(error instanceof Error) || !('code' in error)) throw error;
    }
  }
  return undefined;
}

/** Code is loaded from here, so nobody else may be able to write to it (a shared /tmp above all). */
function isOurs(folder: string): boolean {
  const { uid, mode } = statSync(folder);
  return (uid === process.getuid?.() || uid === 0) && (mode & 0o022) === 0;
}

function isComplete(folder: string): boolean {
  return SWIFTSHADER_FILES.every((file) => existsSync(join(folder, file)));
}

/** Unpacks beside `folder` and renames: other processes see all of it or none, and the first to finish wins. */
function unpack(archive: string, place: string, folder: string): void {
  const fresh = mkdtempSync(join(place, '.unpack-'));
  try {
    for (const [name, bytes] of tarFiles(brotliDecompressSync(readFileSync(archive))))
      if (SWIFTSHADER_FILES.includes(name)) writeFileSync(join(fresh, name), bytes);
    try {
      renameSync(fresh, folder);
    } catch (error) {
      if (isComplete(folder)) return;
      if (!existsSync(folder)) throw error;
      rmSync(folder, { recursive: true }); // damaged, as by a cache cleaner that took one file
      renameSync(fresh, folder);
    }
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

/** The regular files of a tar archive, by base name. Saves depending on a `tar` program. */
function* tarFiles(tar: Buffer): Generator<[name: string, bytes: Buffer]> {
  const text = (from: number, to: number) => tar.toString('latin1', from, to).replace(/\0.*$/s, '');
  for (let at = 0; at + 512 <= tar.length && tar[at] !== 0; ) {
    const size = Number.parseInt(text(at + 124, at + 136), 8);
    const isFile = tar[at + 156] === 0 || tar[at + 156] === 0x30;
    if (isFile) yield [text(at, at + 100).replace(/^.*\//, ''), tar.subarray(at + 512, at + 512 + size)];
    at += 512 + Math.ceil(size / 512) * 512;
  }
}

function swiftShaderArchive(): { archive: string; version: string } | undefined {
  let folder: string;
  try {
    folder = dirname(createRequire(import.meta.url).resolve('@sparticuz/chromium'));
  } catch {
    return undefined;
  }
  // Its exports hide everything but the entry point, so walk up from there.
  while (!existsSync(join(folder, 'bin/swiftshader.tar.br'))) {
    if (folder === dirname(folder)) return undefined;
    folder = dirname(folder);
  }
  const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version: string };
  return { archive: join(folder, 'bin/swiftshader.tar.br'), version };
}
