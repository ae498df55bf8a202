import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { ensureLoader, findLavapipe, prepareDrivers, unpackSwiftShader } from '../../src/node/drivers.js';

const scratch = mkdtempSync(join(tmpdir(), 'pairslab-drivers-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const place = (name: string) => join(scratch, name);

test('lavapipe is known by its ICD file, whatever the suffix', () => {
  expect(findLavapipe([place('absent')])).toBeUndefined();
  mkdirSync(place('icd'));
  writeFileSync(join(place('icd'), 'radeon_icd.json'), '{}');
  expect(findLavapipe([place('icd')])).toBeUndefined();
  writeFileSync(join(place('icd'), 'lvp_icd.x86_64.json'), '{}');
  expect(findLavapipe([place('absent'), place('icd')])).toBe(join(place('icd'), 'lvp_icd.x86_64.json'));
});

test.skipIf(process.platform === 'linux')('other platforms need nothing', () => {
  const env = {};
  expect(prepareDrivers(env)).toEqual({ loader: 'unneeded' });
  expect(env).toEqual({});
});

describe.skipIf(process.platform !== 'linux')('on Linux', () => {
  test('drivers that the user chose stay as they are', () => {
    for (const name of ['VK_DRIVER_FILES', 'VK_ICD_FILENAMES']) {
      const env = { [name]: '/somewhere/icd.json' };
      expect(prepareDrivers(env).chosenBy).toBe(name);
      expect(env).toEqual({ [name]: '/somewhere/icd.json' });
    }
  });

  test('the loader is looked for once', () => {
    expect(ensureLoader()).toBe(ensureLoader());
  });
});

describe.skipIf(!unpackSwiftShader())('SwiftShader', () => {
  const files = ['libvk_swiftshader.so', 'libvulkan.so.1', 'vk_swiftshader_icd.json'];

  test('joins the default search, beside what is added already, once', () => {
    const env: Record<string, string | undefined> = { VK_ADD_DRIVER_FILES: '/mine.json' };
    const { swiftshader } = prepareDrivers(env);
    prepareDrivers(env);
    const added = env.VK_ADD_DRIVER_FILES?.split(':') ?? [];
    // A loader too old for it has the whole search replaced instead.
    const list = env.VK_ICD_FILENAMES?.split(':') ?? added;
    expect(list.filter((file) => file === swiftshader)).toHaveLength(1);
    expect(added[0]).toBe('/mine.json');
  });

  test('is unpacked whole, once, with nothing left behind', () => {
    const env = { XDG_CACHE_HOME: place('cache') };
    const folder = unpackSwiftShader(env) as string;
    expect(folder.startsWith(place('cache'))).toBe(true);
    expect(readdirSync(folder).sort()).toEqual(files);
    const { mtimeMs } = statSync(join(folder, files[0]));
    expect(unpackSwiftShader(env)).toBe(folder);
    expect(statSync(join(folder, files[0])).mtimeMs).toBe(mtimeMs);
    expect(readdirSync(place('cache/pairslab'))).toHaveLength(1);
  });

  test('is unpacked anew where a file is missing', () => {
    const env = { XDG_CACHE_HOME: place('damaged') };
    const folder = unpackSwiftShader(env) as string;
    rmSync(join(folder, files[0]));
    expect(unpackSwiftShader(env)).toBe(folder);
    expect(readdirSync(folder).sort()).toEqual(files);
    expect(readdirSync(place('damaged/pairslab'))).toHaveLength(1);
  });

  test('goes elsewhere when the cache cannot be written, or others can write to it', () => {
    writeFileSync(place('a-file'), '');
    mkdirSync(place('open/pairslab'), { recursive: true });
    chmodSync(place('open/pairslab'), 0o777);
    for (const cache of ['a-file', 'open']) {
      const folder = unpackSwiftShader({ XDG_CACHE_HOME: place(cache) }) as string;
      expect(folder.startsWith(scratch)).toBe(false);
      expect(existsSync(join(folder, files[0]))).toBe(true);
    }
    expect(readdirSync(place('open/pairslab'))).toEqual([]);
  });
});
