import { vi } from 'vitest';

/** What a step must not do once it is warm: each costs the host, and most of them memory. */
const MAKERS = [
  'createBuffer',
  'createBindGroup',
  'createBindGroupLayout',
  'createPipelineLayout',
  'createShaderModule',
  'createComputePipeline',
  'createComputePipelineAsync',
  'createQuerySet',
  'pushErrorScope',
] as const satisfies readonly (keyof GPUDevice)[];

/** What `run` makes on `device`: the names of the calls, in order. */
export async function made(device: GPUDevice, run: () => Promise<void>): Promise<string[]> {
  const names: string[] = [];
  const spies = MAKERS.map((name) => {
    // Of each overload the same arguments go through.
    const real = device[name].bind(device) as (...given: unknown[]) => unknown;
    return vi.spyOn(device, name).mockImplementation(((...given: unknown[]) => {
      const [descriptor] = given;
      const label = typeof descriptor === 'object' && descriptor !== null && 'label' in descriptor;
      names.push(label ? `${name} ${String(descriptor.label)}` : name);
      return real(...given);
    }) as never);
  });
  try {
    await run();
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  return names;
}
