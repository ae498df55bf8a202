import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { AdapterError } from '../../src/errors.js';
import { chooseAdapter, listAdapters } from '../../src/node/adapters.js';
import { requestDevice } from '../../src/node/device.js';
import { findLavapipe, unpackSwiftShader } from '../../src/node/drivers.js';
import { describeAdapters } from '../support/adapters.js';
import { bundleNode } from './bundle.js';

/** An environment in which nothing says which drivers or adapter to use. */
const NO_CHOICE = {
  VK_DRIVER_FILES: undefined,
  VK_ICD_FILENAMES: undefined,
  VK_ADD_DRIVER_FILES: undefined,
  PAIRSLAB_ADAPTER: undefined,
};
const adapters = await listAdapters();
const anyAdapter = test.skipIf(adapters.length === 0);
afterEach(() => void vi.unstubAllEnvs());

describe('adapters', () => {
  test('have distinct names, hardware before software', () => {
    const names = adapters.map((entry) => entry.name);
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) expect(name).toMatch(/^(gpu\d*|lavapipe|swiftshader)$/);
    const software = adapters.map((entry) => entry.software);
    expect(software).toEqual([...software].sort());
  });

  anyAdapter(
    'are chosen by name, by part of the device name, by PAIRSLAB_ADAPTER, else the best',
    async () => {
      const last = adapters[adapters.length - 1];
      expect(await chooseAdapter(last.name)).toBe(last);
      expect(await chooseAdapter(last.deviceName.toUpperCase())).toBe(last);
      vi.stubEnv('PAIRSLAB_ADAPTER', last.name);
      expect(await chooseAdapter()).toBe(last);
      expect(await chooseAdapter(adapters[0].name)).toBe(adapters[0]);
      vi.stubEnv('PAIRSLAB_ADAPTER', '');
      expect(await chooseAdapter()).toBe(adapters[0]);
    },
  );

  anyAdapter('that are unknown give an error that lists what there is', async () => {
    const error = await requestDevice({ adapter: 'voodoo' }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(AdapterError);
    const { message } = error as AdapterError;
    expect(message).toContain("'voodoo'");
    for (const entry of adapters) expect(message).toContain(entry.deviceName);
  });

  anyAdapter('without a wanted feature give an error that names it', async () => {
    await expect(requestDevice({ features: ['levitation'] })).rejects.toThrow(/has no levitation/);
  });
});

describeAdapters('device', (ctx) => {
  test('has the adapter’s limits and the features pairslab uses', () => {
    const { device, adapter } = ctx;
    expect(device.label).toBe('pairslab');
    expect(device.limits.maxStorageBufferBindingSize).toBe(adapter.limits.maxStorageBufferBindingSize);
    expect(device.limits.maxComputeWorkgroupSizeX).toBe(adapter.limits.maxComputeWorkgroupSizeX);
    for (const feature of ['timestamp-query', 'shader-f16', 'subgroups'])
      expect(device.features.has(feature)).toBe(ctx.has(feature));
    expect(GPUBufferUsage.STORAGE).toBe(128);
  });

  test('can have every feature, and robustness off', async () => {
    const { device, destroy } = await requestDevice({
      adapter: ctx.adapter.name,
      features: 'all',
      robustness: false,
    });
    for (const feature of ctx.adapter.features) expect(device.features.has(feature)).toBe(true);
    destroy();
    expect((await device.lost).reason).toBe('destroyed');
  });

  test('reports an error that no scope caught', async () => {
    const log = vi.fn<(message: string) => void>();
    const { device, destroy } = await requestDevice({ adapter: ctx.adapter.name, log });
    device.createBuffer({ size: 16, usage: 0 });
    await device.queue.onSubmittedWorkDone();
    expect(log).toHaveBeenCalledOnce();
    expect(log.mock.calls[0][0]).toContain('GPUValidationError');
    destroy();
  });
});

describe.skipIf(process.platform !== 'linux')('a process of its own', () => {
  const spawn = (code: string, env: Record<string, string | undefined> = {}) => {
    const child = spawnSync(process.execPath, ['--expose-gc', '--input-type=module', '-e', code], {
      env: { ...process.env, ...env },
      encoding: 'utf8',
    });
    expect({ status: child.status, signal: child.signal }, child.stderr).toEqual({ status: 0, signal: null });
    return child;
  };

  test('sees only the drivers that the user chose, and keeps stdout clean', async () => {
    const lib = await bundleNode();
    const folder = unpackSwiftShader();
    const choices = { lavapipe: findLavapipe(), swiftshader: folder && `${folder}/vk_swiftshader_icd.json` };
    for (const [name, icd] of Object.entries(choices)) {
      if (!icd || !existsSync(icd) || !adapters.some((entry) => entry.name === name)) continue;
      for (const variable of ['VK_DRIVER_FILES', 'VK_ICD_FILENAMES']) {
        const { stdout } = spawn(
          `import { listAdapters, chooseAdapter } from ${lib};
           const names = (await listAdapters()).map((entry) => entry.name);
           const error = await chooseAdapter('voodoo').catch((e) => e.message);
           process.stdout.write(JSON.stringify({ names, error, set: process.env.${variable} }));`,
          { ...NO_CHOICE, [variable]: icd },
        );
        const { names, error, set } = JSON.parse(stdout) as { names: string[]; error: string; set: string };
        expect(names).toEqual([name]);
        expect(set).toBe(icd);
        expect(error).toContain(`${variable} limits the drivers`);
      }
    }
  });

  test.skipIf(!unpackSwiftShader())(
    'has SwiftShader whatever the system’s loader is: none, old',
    async () => {
      const lib = await bundleNode();
      const folder = mkdtempSync(join(tmpdir(), 'pairslab-loader-'));
      onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
      const bundled = readFileSync(join(unpackSwiftShader() as string, 'libvulkan.so.1'), 'latin1');
      const loaders = {
        // The dynamic linker stops at a file that is no library, which hides the system's.
        bundled: '',
        // 1.3.204 knows neither of these names.
        system: bundled
          .replace('VK_ADD_DRIVER_FILES', 'VK_ADX_DRIVER_FILES')
          .replace('VK_DRIVER_FILES', 'VK_DRXVER_FILES'),
      };
      for (const [from, bytes] of Object.entries(loaders)) {
        writeFileSync(join(folder, 'libvulkan.so.1'), bytes, 'latin1');
        const { stdout } = spawn(
          `import { requestDevice, prepareDrivers } from ${lib};
         const { adapter } = await requestDevice({ adapter: 'swiftshader' });
         process.stdout.write(JSON.stringify([prepareDrivers().loader, adapter.name]));`,
          { ...NO_CHOICE, LD_LIBRARY_PATH: folder },
        );
        expect(JSON.parse(stdout)).toEqual([from, 'swiftshader']);
      }
    },
  );

  anyAdapter('writes an error that no scope caught to stderr only', async () => {
    const lib = await bundleNode();
    const code = `import { requestDevice } from ${lib};
      const { device } = await requestDevice();
      device.createBuffer({ size: 16, usage: 0 });
      await device.queue.onSubmittedWorkDone();`;
    const { stdout, stderr } = spawn(code);
    expect(stdout).toBe('');
    expect(stderr).toContain('pairslab: uncaptured GPUValidationError');
  });

  anyAdapter('ends by itself when a device was collected, destroyed or left alone', async () => {
    const lib = await bundleNode();
    for (const ending of ['', 'held.destroy();', 'held.destroy(); held = undefined;', 'held = undefined;']) {
      const code = `import { requestDevice } from ${lib};
        let held = await requestDevice();
        await held.device.queue.onSubmittedWorkDone();
        ${ending}
        for (let i = 0; i < 3; i++) { gc(); await new Promise((done) => setTimeout(done, 10)); }
        process.stdout.write('end');`;
      expect(spawn(code).stdout).toBe('end');
    }
  });
});
