import { AdapterError, deviceNeeds } from '../../src/index.js';
import { useSoftwareKernels } from '../../src/kernels.js';

export interface PageDevice {
  device: GPUDevice;
  /** What the browser says of the adapter, for people. */
  name: string;
  info: GPUAdapterInfo;
}

/** A device with all that its adapter has. @throws AdapterError where the browser has no WebGPU, or no adapter for it. */
export async function openDevice(): Promise<PageDevice> {
  // Types say that it is always there.
  const gpu = navigator.gpu as GPU | undefined;
  if (!gpu) throw new AdapterError('This browser has no WebGPU, or has it only on pages served over HTTPS.');
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter)
    throw new AdapterError('This browser knows WebGPU but finds no graphics adapter that it would use.');
  const { info } = adapter;
  const device = await adapter.requestDevice(deviceNeeds(adapter));
  // For the benchmarks; a model does so by itself.
  useSoftwareKernels(device);
  const name =
    info.description || [info.vendor, info.architecture].filter(Boolean).join(' ') || 'unnamed adapter';
  return { device, name, info };
}
