import type { mat4 } from 'gl-matrix';
import type { LlamaSession } from '../../../src/llama/index.js';
import ageShader from './age.wgsl';
import cellsShader from './cells.wgsl';
import { type Layout, origin } from './layout.js';

/** What is looked at of a layer's slab; see age.wgsl. */
export interface SlabLook {
  capacity: number;
  rowList: GPUBuffer;
  /** The rows that the last step used, where they lie anywhere; null where they fill the first slots. */
  list: { buffer: GPUBuffer; offset: number; size: number } | null;
}

/** The slabs of a session; none where its strategy has none. */
export function looksOf({ slabs, budgeted }: LlamaSession): SlabLook[] {
  if (budgeted)
    return budgeted.slabs.map(({ capacity, rowList, lastList }) => ({ capacity, rowList, list: lastList }));
  return slabs.map(({ capacity, rowList }) => ({ capacity, rowList, list: null }));
}

/** Colours as red, green, blue and 1, each 0 to 1. */
export interface Palette {
  background: number[];
  empty: number[];
  evicted: number[];
  old: number[];
  fresh: number[];
  flash: number[];
  chosen: number[];
}

export interface Picture {
  layout: Layout;
  matrix: mat4;
  palette: Palette;
  /** Tokens decoded, and one. */
  token: number;
  /** Every active row is written at every step. */
  rewrites: boolean;
  /** Seconds; flashes fade by it. */
  time: number;
  /** Written rows rise. */
  motion: boolean;
  chosen: { layer: number; slot: number } | null;
}

const SAMPLES = 4;
const DEPTH = 'depth24plus';
/** Words of `Scene` in cells.wgsl. */
const SCENE_WORDS = 16 + 6 * 4 + 8;
const CUBE_VERTICES = 36;
const STATE_BYTES = 16;
/** Uniform bindings start at multiples of this on every device. */
const ALIGN = 256;

/** Draws slabs on a canvas by WebGPU, from what is on the device already: nothing is read back. */
export class Scene {
  private readonly device: GPUDevice;
  private readonly context: GPUCanvasContext;
  private readonly age: { layout: GPUBindGroupLayout; slots: GPUComputePipeline; active: GPUComputePipeline };
  private readonly cells: GPURenderPipeline;
  private readonly uniform: GPUBuffer;
  private targets: { colour: GPUTexture; depth: GPUTexture } | null = null;
  private attached: Attached | null = null;

  constructor(device: GPUDevice, canvas: HTMLCanvasElement) {
    const context = canvas.getContext('webgpu');
    if (!context) throw new Error('the canvas gives no WebGPU context');
    const format = navigator.gpu.getPreferredCanvasFormat();
    context.configure({ device, format, alphaMode: 'opaque' });
    this.device = device;
    this.context = context;
    this.age = agePipelines(device);
    this.cells = cellPipeline(device, format);
    this.uniform = device.createBuffer({
      label: 'slab view scene',
      size: SCENE_WORDS * 4,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
  }

  /** Looks at other slabs; their buffers must live until the next `attach`. */
  attach(looks: readonly SlabLook[]): void {
    this.attached?.destroy();
    this.attached =
      looks.length > 0 ? new Attached(this.device, this.age.layout, this.cells, this.uniform, looks) : null;
  }

  /** Where a slot's state is: four words, see age.wgsl. Null when nothing is attached. */
  stateOf(layer: number, slot: number): { buffer: GPUBuffer; offset: number } | null {
    if (!this.attached) return null;
    const { state, capacity } = this.attached;
    return { buffer: state, offset: (layer * capacity + slot) * STATE_BYTES };
  }

  /** Submits one picture. */
  draw(picture: Picture): void {
    const { device, attached } = this;
    const { palette, layout } = picture;
    const encoder = device.createCommandEncoder({ label: 'slab view' });
    if (attached) {
      attached.setLayout(layout);
      this.writeScene(picture, attached);
      const pass = encoder.beginComputePass({ label: 'slab view ages' });
      attached.encodeAges(pass, this.age, picture);
      pass.end();
    }
    const view = this.context.getCurrentTexture();
    const { colour, depth } = this.targetsFor(view);
    const [r, g, b] = palette.background;
    const pass = encoder.beginRenderPass({
      label: 'slab view',
      colorAttachments: [
        {
          view: colour.createView(),
          resolveTarget: view.createView(),
          clearValue: [r, g, b, 1],
          loadOp: 'clear',
          storeOp: 'discard',
        },
      ],
      depthStencilAttachment: {
        view: depth.createView(),
        depthClearValue: 1,
        depthLoadOp: 'clear',
        depthStoreOp: 'discard',
      },
    });
    if (attached) {
      pass.setPipeline(this.cells);
      pass.setBindGroup(0, attached.scene);
      pass.draw(CUBE_VERTICES, layout.layers * layout.slots);
    }
    pass.end();
    device.queue.submit([encoder.finish()]);
  }

  destroy(): void {
    this.attach([]);
    this.targets?.colour.destroy();
    this.targets?.depth.destroy();
    this.uniform.destroy();
    this.context.unconfigure();
  }

  private writeScene(
    { matrix, palette, layout, token, time, motion, chosen }: Picture,
    { capacity }: Attached,
  ): void {
    const words = new Float32Array(SCENE_WORDS);
    const ints = new Uint32Array(words.buffer);
    words.set(matrix as Float32Array, 0);
    const { empty, evicted, old, fresh, flash, chosen: mark } = palette;
    words.set([empty, evicted, old, fresh, flash, mark].flat(), 16);
    ints.set([layout.columns, layout.slots, capacity, token], 40);
    words.set([time, motion ? 1 : 0], 44);
    ints.set(chosen ? [chosen.layer, chosen.slot] : [0xffffffff, 0], 46);
    this.device.queue.writeBuffer(this.uniform, 0, words);
  }

  private targetsFor({ width, height, format }: GPUTexture): { colour: GPUTexture; depth: GPUTexture } {
    const { targets, device } = this;
    if (targets && targets.colour.width === width && targets.colour.height === height) return targets;
    targets?.colour.destroy();
    targets?.depth.destroy();
    const make = (what: GPUTextureFormat) =>
      device.createTexture({
        label: 'slab view target',
        size: [width, height],
        sampleCount: SAMPLES,
        format: what,
        usage: GPUTextureUsage.RENDER_ATTACHMENT,
      });
    this.targets = { colour: make(format), depth: make(DEPTH) };
    return this.targets;
  }
}

/** Buffers and bind groups for the slabs that are looked at. */
class Attached {
  readonly capacity: number;
  readonly state: GPUBuffer;
  readonly scene: GPUBindGroup;
  private readonly device: GPUDevice;
  private readonly looks: readonly SlabLook[];
  private readonly params: GPUBuffer;
  private readonly origins: GPUBuffer;
  private readonly groups: readonly GPUBindGroup[];
  private layout: Layout | null = null;

  constructor(
    device: GPUDevice,
    layout: GPUBindGroupLayout,
    cells: GPURenderPipeline,
    uniform: GPUBuffer,
    looks: readonly SlabLook[],
  ) {
    this.device = device;
    this.looks = looks;
    this.capacity = Math.max(...looks.map(({ capacity }) => capacity));
    const buffer = (label: string, size: number, usage: number) =>
      device.createBuffer({ label: `slab view ${label}`, size, usage: usage | GPUBufferUsage.COPY_DST });
    const { STORAGE, COPY_SRC, UNIFORM } = GPUBufferUsage;
    this.state = buffer('states', looks.length * this.capacity * STATE_BYTES, STORAGE | COPY_SRC);
    this.origins = buffer('origins', looks.length * 8, STORAGE);
    this.params = buffer('age params', looks.length * ALIGN, UNIFORM);
    this.groups = looks.map(({ rowList, list }, l) =>
      device.createBindGroup({
        layout,
        entries: [
          { binding: 0, resource: { buffer: this.params, offset: l * ALIGN, size: 32 } },
          { binding: 1, resource: { buffer: rowList } },
          { binding: 2, resource: list ?? { buffer: rowList } },
          { binding: 3, resource: { buffer: this.state } },
        ],
      }),
    );
    this.scene = device.createBindGroup({
      layout: cells.getBindGroupLayout(0),
      entries: [uniform, this.state, this.origins].map((of, binding) => ({
        binding,
        resource: { buffer: of },
      })),
    });
  }

  setLayout(layout: Layout): void {
    const { layout: old } = this;
    if (old && JSON.stringify(old) === JSON.stringify(layout)) return;
    this.layout = layout;
    const places = Float32Array.from(this.looks.flatMap((_, l) => origin(layout, l)));
    this.device.queue.writeBuffer(this.origins, 0, places);
  }

  encodeAges(pass: GPUComputePassEncoder, { slots, active }: Scene['age'], picture: Picture): void {
    const { looks, device, capacity } = this;
    const words = new Uint32Array((looks.length * ALIGN) / 4);
    const floats = new Float32Array(words.buffer);
    for (const [l, look] of looks.entries()) {
      const at = (l * ALIGN) / 4;
      const flags = [look.list ? 0 : 1, picture.rewrites ? 1 : 0];
      words.set([l * capacity, look.capacity, ...flags, picture.token], at);
      floats[at + 5] = picture.time;
    }
    device.queue.writeBuffer(this.params, 0, words);
    for (const [pipeline, which] of [
      [slots, looks],
      [active, looks.filter(({ list }) => list)],
    ] as const) {
      pass.setPipeline(pipeline);
      for (const look of which) {
        pass.setBindGroup(0, this.groups[looks.indexOf(look)]);
        pass.dispatchWorkgroups(Math.ceil(look.capacity / 64));
      }
    }
  }

  destroy(): void {
    for (const buffer of [this.state, this.origins, this.params]) buffer.destroy();
  }
}

function agePipelines(device: GPUDevice): Scene['age'] {
  const layout = device.createBindGroupLayout({
    label: 'slab view ages',
    entries: (['uniform', 'read-only-storage', 'read-only-storage', 'storage'] as const).map(
      (type, binding) => ({
        binding,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type },
      }),
    ),
  });
  const module = device.createShaderModule({ label: 'slab view ages', code: ageShader });
  const make = (entryPoint: string) =>
    device.createComputePipeline({
      label: `slab view ${entryPoint}`,
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint },
    });
  return { layout, slots: make('slots'), active: make('active_rows') };
}

function cellPipeline(device: GPUDevice, format: GPUTextureFormat): GPURenderPipeline {
  const module = device.createShaderModule({ label: 'slab view cells', code: cellsShader });
  return device.createRenderPipeline({
    label: 'slab view cells',
    layout: 'auto',
    vertex: { module, entryPoint: 'vertex' },
    fragment: { module, entryPoint: 'fragment', targets: [{ format }] },
    depthStencil: { format: DEPTH, depthCompare: 'less', depthWriteEnabled: true },
    multisample: { count: SAMPLES },
  });
}
