import { OptionError } from '../errors.js';
import { softwareKernels } from './storage.js';

/**
 * A kernel: one `.wgsl` file whose open places (`//@slot NAME`) are filled from a declared table and whose constants
 * are given as numbers. `//@again up: NAMES` fills slots a second time, for a second buffer. Nothing else about the text
 * changes, so a kernel reads as it runs.
 */
export interface KernelTable {
  /** The file's name, e.g. `copy_rows`. */
  readonly name: string;
  readonly code: string;
  /** slot name → choice → WGSL that stands in its place. */
  readonly slots: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** `const NAME: u32` declarations and their default values. */
  readonly constants: Readonly<Record<string, number>>;
}

/** Which choice each slot takes and which constants differ from the defaults. */
export interface Variant {
  slots?: Readonly<Record<string, string>>;
  constants?: Readonly<Record<string, number>>;
}

type BindingKind = 'uniform' | 'read-only-storage' | 'storage' | 'texels';
interface Binding {
  name: string;
  index: number;
  kind: BindingKind;
}

/** A compiled variant. Bind groups are made by the variables' names, as the WGSL declares them. */
export class Kernel {
  readonly label: string;
  /** The table's name, and what was chosen for its slots: for those who look at what was dispatched. */
  readonly name: string;
  readonly slots: Readonly<Record<string, string>>;
  readonly pipeline: GPUComputePipeline;
  private readonly device: GPUDevice;
  private readonly layout: GPUBindGroupLayout;
  private readonly bindings: readonly Binding[];

  constructor(
    device: GPUDevice,
    label: string,
    code: string,
    of: { name: string; slots?: Variant['slots'] } = { name: label },
  ) {
    this.device = device;
    this.label = label;
    this.name = of.name;
    this.slots = of.slots ?? {};
    this.bindings = readBindings(code);
    this.layout = device.createBindGroupLayout({
      label,
      entries: this.bindings.map(({ index, kind }) => ({
        binding: index,
        visibility: 4 /* GPUShaderStage.COMPUTE */,
        ...(kind === 'texels'
          ? { storageTexture: { access: 'read-only', format: 'rgba32uint' } }
          : { buffer: { type: kind } }),
      })),
    });
    this.pipeline = device.createComputePipeline({
      label,
      layout: device.createPipelineLayout({ label, bindGroupLayouts: [this.layout] }),
      compute: { module: device.createShaderModule({ label, code }), entryPoint: 'main' },
    });
  }

  /** Buffers and textures by the name of the WGSL variable; ones that this variant does not declare are left out. */
  bind(buffers: Readonly<Record<string, Bindable | undefined>>): GPUBindGroup {
    const bound = new Map<string, GPUBufferBinding | GPUTexture>();
    const group = this.device.createBindGroup({
      label: this.label,
      layout: this.layout,
      entries: this.bindings.map(({ name, index, kind }) => {
        const given = buffers[name];
        if (!given) throw new OptionError(`kernel ${this.label} needs a buffer named "${name}"`, { name });
        if ('createView' in given) {
          bound.set(name, given);
          return { binding: index, resource: given.createView() };
        }
        const resource = 'buffer' in given ? given : { buffer: given };
        if (kind !== 'uniform') bound.set(name, resource);
        return { binding: index, resource };
      }),
    });
    bindings.set(group, { kernel: this, buffers: bound });
    return group;
  }
}

export type Bindable = GPUBuffer | GPUBufferBinding | GPUTexture;

/** What a bind group was made of: its kernel, and its storage buffers and textures by the names of the WGSL's variables. */
export interface Bound {
  readonly kernel: Kernel;
  readonly buffers: ReadonlyMap<string, GPUBufferBinding | GPUTexture>;
}

const bindings = new WeakMap<GPUBindGroup, Bound>();

/** What `Kernel.bind` made `group` of; undefined for a bind group from elsewhere. */
export function boundTo(group: GPUBindGroup): Bound | undefined {
  return bindings.get(group);
}

const caches = new WeakMap<GPUDevice, Map<string, Kernel>>();

/**
 * The kernel of `table` in `variant`, compiled once per device.
 * @throws OptionError for a slot choice or a constant that the table does not declare.
 */
export function kernel(device: GPUDevice, plain: KernelTable, variant: Variant = {}): Kernel {
  const table = softwareKernels(device)?.kernels(plain) ?? plain;
  let cache = caches.get(device);
  if (!cache) {
    cache = new Map();
    caches.set(device, cache);
  }
  checkVariant(table, variant);
  // In the table's order and with its defaults, so that two ways of asking for one variant share a pipeline.
  const chosen = Object.keys(table.slots).map((slot) => variant.slots?.[slot] ?? '');
  const key = `${table.name} ${chosen} ${Object.values({ ...table.constants, ...variant.constants })}`;
  let found = cache.get(key);
  if (!found) {
    const choices = Object.values(variant.slots ?? {}).join(' ');
    found = new Kernel(device, `pairslab ${table.name} ${choices}`.trim(), compose(table, variant), {
      name: table.name,
      slots: variant.slots,
    });
    cache.set(key, found);
  }
  return found;
}

/** The WGSL of one variant: `enable` and `diagnostic` lines first, then the constants, then the file with its slots filled. */
export function compose(table: KernelTable, variant: Variant): string {
  checkVariant(table, variant);
  let times = 0;
  const body = fill(table, table.code, variant).replace(
    /^\/\/@again (\w+): ([\w ]+?)(?: \(([\w ]+)\))?$/gm,
    (_, prefix: string, slots: string, more = '') => {
      const text = slots.split(' ').map((slot) => choiceOf(table, slot, variant));
      times++;
      return again(text.join(''), prefix, more.split(' ').filter(Boolean), AGAIN_BINDINGS * times);
    },
  );
  const directives = new Set<string>();
  const rest = body.replace(/^(enable|diagnostic)\b[^;]*;$/gm, (line) => {
    directives.add(line);
    return '';
  });
  const consts = Object.entries({ ...table.constants, ...variant.constants }).map(
    ([n, v]) => `const ${n}: u32 = ${v}u;`,
  );
  return [...directives, ...consts, rest].join('\n');
}

function fill(table: KernelTable, code: string, variant: Variant): string {
  return code.replace(/^\/\/@slot (\w+)$/gm, (_, slot: string) => choiceOf(table, slot, variant));
}

function choiceOf(table: KernelTable, slot: string, variant: Variant): string {
  const { slots = {} } = variant;
  const choices = table.slots[slot];
  const choice =
    slots[slot] ?? (choices && Object.keys(choices).length === 1 ? Object.keys(choices)[0] : undefined);
  if (!choices || choice === undefined || !Object.hasOwn(choices, choice)) {
    const allowed = Object.keys(choices ?? {}).join(', ');
    throw new OptionError(`kernel ${table.name} has no ${slot} "${choice}"; it has: ${allowed}`, {
      slot,
      choice,
    });
  }
  // A choice may have open places of its own.
  return fill(table, choices[choice], variant);
}

/** Bindings of a slot's second instance are numbered from here, of its third from twice that: WGSL has no generics. */
const AGAIN_BINDINGS = 20;

/**
 * `//@again PREFIX: SLOTS (NAMES)`: the slots' text once more, for another buffer: what it declares at module scope, and
 * the NAMES that it uses, get the prefix, and its bindings other numbers.
 */
function again(text: string, prefix: string, more: readonly string[], bindings: number): string {
  const declared = [
    ...text.matchAll(/^(?:@group\S* @binding\S* )?(?:fn|const|alias|struct|var(?:<[^>]*>)?) (\w+)/gm),
  ];
  const names = new Set([...declared.map(([, name]) => name), ...more]);
  return (
    text
      .replace(/@binding\((\d+)\)/g, (_, index) => `@binding(${Number(index) + bindings})`)
      // Not members: `w.x` has nothing to do with a buffer x.
      .replace(/\.?\b[A-Za-z_]\w*\b/g, (word) => (names.has(word) ? `${prefix}_${word}` : word))
  );
}

function checkVariant(table: KernelTable, { slots = {}, constants = {} }: Variant): void {
  for (const name of Object.keys(constants)) {
    if (!Object.hasOwn(table.constants, name)) {
      throw new OptionError(`kernel ${table.name} has no constant "${name}"`, { name });
    }
  }
  for (const name of Object.keys(slots)) {
    if (!Object.hasOwn(table.slots, name)) {
      throw new OptionError(`kernel ${table.name} has no slot "${name}"`, { name });
    }
  }
}

/** The one kind of texture that kernels read: lib/stored_texels.wgsl. */
const TEXELS = /@binding\((\d+)\)\s*var (\w+)\s*:\s*texture/g;

function readBindings(code: string): Binding[] {
  const found: Binding[] = [];
  const pattern = /@group\(0\)\s*@binding\((\d+)\)\s*var<\s*(uniform|storage)\s*(?:,\s*(\w+)\s*)?>\s*(\w+)/g;
  for (const [, index, space, access, name] of code.matchAll(pattern)) {
    const kind = space === 'uniform' ? 'uniform' : access === 'read_write' ? 'storage' : 'read-only-storage';
    found.push({ name, index: Number(index), kind });
  }
  for (const [, index, name] of code.matchAll(TEXELS))
    found.push({ name, index: Number(index), kind: 'texels' });
  return found;
}

/** A kernel bound to its buffers with its grid: what a layer records again and again. */
export interface Dispatch {
  kernel: Kernel;
  group: GPUBindGroup;
  grid: readonly [number, number, number];
}

export function encodeDispatch(pass: GPUComputePassEncoder, { kernel, group, grid }: Dispatch): void {
  if (grid[0] === 0 || grid[1] === 0 || grid[2] === 0) return;
  pass.setPipeline(kernel.pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(grid[0], grid[1], grid[2]);
}

/** Folds `count` workgroups into x and y, neither beyond what the device allows; kernels read `y * groups.x + x`. */
export function foldGrid(device: GPUDevice, count: number): [number, number] {
  const limit = device.limits.maxComputeWorkgroupsPerDimension;
  if (count <= limit) return [count, 1];
  const y = Math.ceil(count / limit);
  return [Math.ceil(count / y), y];
}
