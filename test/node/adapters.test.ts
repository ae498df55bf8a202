import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { AdapterError } from '../../src/errors.js';
import { chooseAdapter, listAdapters } from '../../src/node/adapters.js';
import { requestDevice } from '../../src/node/device.js';
import { describeAdapters } from '../support/adapters.js';
import { bundleNode } from './bundle.js';

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
  const run = (code: string, env: Record<string, string>) =>
    execFileSync(process.execPath, ['--expose-gc', '--input-type=module', '-e', code], {
      env: { ...process.env, PAIRSLAB_ADAPTER: '', ...env },
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });

  test('sees only the drivers that the user chose, and keeps stdout clean', async () => {
    const lib = await bundleNode();
    const { findLavapipe, unpackSwiftShader } = await import('../../src/node/drivers.js');
    const folder = unpackSwiftShader();
    const choices = { lavapipe: findLavapipe(), swiftshader: folder && `${folder}/vk_swiftshader_icd.json` };
    for (const [name, icd] of Object.entries(choices)) {
      if (!icd || !existsSync(icd) || !adapters.some((entry) => entry.name === name)) continue;
      for (const variable of ['VK_DRIVER_FILES', 'VK_ICD_FILENAMES']) {
        const unset = { VK_DRIVER_FILES: '', VK_ICD_FILENAMES: '', VK_ADD_DRIVER_FILES: '' };
        const out = run(
          `import { listAdapters, chooseAdapter } from ${lib};
           const names = (await listAdapters()).map((entry) => entry.name);
           const error = await chooseAdapter('voodoo').catch((e) => e.message);
           process.stdout.write(JSON.stringify({ names, error, set: process.env.${variable} }));`,
          { ...unset, [variable]: icd },
        );
        const { names, error, set } = JSON.parse(out) as { names: string[]; error: string; set: string };
        expect(names).toEqual([name]);
        expect(set).toBe(icd);
        expect(error).toContain(`${variable} limits the drivers`);
      }
    }
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
      expect(run(code, {})).toBe('end');
    }
  });
});
