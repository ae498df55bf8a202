import { DeviceLostError, finished, readBuffer } from '../../../src/index.js';
import { checkLost } from '../../../src/gpu/lost.js';
import type { LlamaSession } from '../../../src/llama/index.js';
import { Camera } from './camera.js';
import { arrange, cellAt, extent, type Layout, origin } from './layout.js';
import { looksOf, type Palette, Scene } from './scene.js';

export interface SlabViewParts {
  canvas: HTMLCanvasElement;
  /** Over the canvas: where names of layers go. */
  names: HTMLElement;
  /** Says what is under the pointer or the cursor. */
  tip: HTMLElement;
  /** Shown in place of the picture where there is no slab. */
  none: HTMLElement;
}

/** While text is made, the picture is coarser where drawing takes longer than this, ms, down to this share of its lines. */
const SLOW_MS = 25;
const COARSEST = 0.5;

/** How long flashes are seen, seconds. */
const FADE_S = 1.6;
const STEP = 0.12;

/** The layers' slabs in three dimensions: drawn when asked to, orbited, zoomed, and read under the pointer. */
export class SlabView {
  private readonly parts: SlabViewParts;
  private device: GPUDevice;
  private scene: Scene;
  private readonly camera = new Camera();
  private readonly palette: () => Palette;
  private session: LlamaSession | null = null;
  private slabs: { capacity: number; layers: number } | null = null;
  private layout: Layout = arrange(1, 1, 1, 1);
  /** Most rows that a layer used so far. */
  private used = 0;
  private token = 1;
  private on = true;
  private visible = true;
  /** Text is being made: pictures are drawn between its runs, by `draw` alone. */
  private busy = false;
  private frame = 0;
  private drawing = false;
  private flashUntil = 0;
  private detail = 1;
  private lastMs = SLOW_MS;
  private chosen: { layer: number; slot: number } | null = null;
  private reading = false;
  private readonly stillness = matchMedia('(prefers-reduced-motion: reduce)');

  /** `palette` is asked at each picture, so that a change of theme is seen. */
  constructor(device: GPUDevice, parts: SlabViewParts, palette: () => Palette) {
    this.device = device;
    this.parts = parts;
    this.palette = palette;
    this.scene = new Scene(device, parts.canvas);
    const { canvas } = parts;
    new ResizeObserver(() => this.refresh()).observe(canvas);
    new IntersectionObserver((entries) => {
      this.visible = entries[entries.length - 1].isIntersecting;
      this.refresh();
    }).observe(canvas);
    document.addEventListener('visibilitychange', () => this.refresh());
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.refresh());
    this.listen(canvas);
  }

  /** Looks at a session's slabs, on whatever device it is, until it is told of another or of none. */
  attach(session: LlamaSession | null): void {
    if (session && session.device !== this.device) {
      this.scene.destroy();
      this.device = session.device;
      this.scene = new Scene(this.device, this.parts.canvas);
    }
    const looks = session ? looksOf(session) : [];
    this.session = session;
    this.scene.attach(looks);
    this.slabs =
      looks.length > 0
        ? { capacity: Math.max(...looks.map((look) => look.capacity)), layers: looks.length }
        : null;
    this.used = this.session?.budgeted ? (this.slabs?.capacity ?? 0) : 0;
    this.token = 1;
    this.choose(null);
    this.parts.none.hidden = looks.length > 0 || !session;
    this.refresh();
  }

  /** So many tokens more were decoded, with so many active rows in each layer. */
  decoded(tokens: number, active: readonly number[] | null): void {
    this.token += tokens;
    if (active) this.used = Math.max(this.used, ...active);
    this.flashUntil = performance.now() / 1000 + FADE_S;
  }

  /** While it is, pictures are drawn only when `draw` is called. */
  set decoding(busy: boolean) {
    this.busy = busy;
    this.refresh();
  }

  set enabled(on: boolean) {
    this.on = on;
    this.refresh();
  }

  /** Whether a picture would be seen. */
  get wanted(): boolean {
    return this.seen && this.slabs !== null;
  }

  /** Draws a picture. @returns what it took until the device had done it, ms; null when that was lost. */
  async draw(): Promise<number | null> {
    const started = performance.now();
    try {
      checkLost(this.device);
      this.drawNow(started / 1000);
      await finished(this.device);
    } catch (error) {
      // Whoever opened the device knows, and brings the session to another.
      if (error instanceof DeviceLostError) return null;
      throw error;
    }
    const ms = performance.now() - started;
    // What is left of the time that it took at full detail, were it proportional to the area.
    const fit = Math.sqrt(SLOW_MS / ms);
    this.detail = Math.min(1, Math.max(COARSEST, this.busy ? Math.min(this.detail, this.detail * fit) : fit));
    this.lastMs = ms;
    return ms;
  }

  /** About what the first picture takes that is drawn while text is made, ms. */
  get expectedMs(): number {
    return this.lastMs * this.detail ** 2;
  }

  /** Whether the canvas is on the screen; where it is not nothing is drawn, and once it is again, what is there then. */
  private get seen(): boolean {
    return this.on && this.visible && !document.hidden;
  }

  /** A picture soon, where nothing is slowed by it and somebody sees it. */
  private refresh(): void {
    if (this.busy || !this.seen || this.frame !== 0 || this.drawing) return;
    this.frame = requestAnimationFrame(async () => {
      this.frame = 0;
      if (this.busy || !this.seen) return;
      this.drawing = true;
      await this.draw().catch(() => {});
      this.drawing = false;
      if (performance.now() / 1000 < this.flashUntil) this.refresh();
    });
  }

  private drawNow(time: number): void {
    const { canvas } = this.parts;
    const scale = Math.min(2, devicePixelRatio) * (this.busy ? this.detail : 1);
    const width = Math.max(1, Math.round(canvas.clientWidth * scale));
    const height = Math.max(1, Math.round(canvas.clientHeight * scale));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const aspect = width / height;
    const { layers, capacity } = this.slabs ?? { layers: 1, capacity: 1 };
    // Seen from above at a slant, depth looks shorter than it is.
    this.layout = arrange(layers, capacity, this.used, aspect * 0.85);
    const matrix = this.camera.viewProjection(...extent(this.layout), aspect);
    const { layout, token, chosen } = this;
    this.scene.draw({
      layout,
      matrix,
      token,
      time,
      chosen,
      palette: this.palette(),
      rewrites: this.session?.strategy === 'repack',
      motion: !this.stillness.matches,
    });
    this.placeNames();
  }

  /** The layers' names, before each plate: nothing stands up there. */
  private placeNames(): void {
    const { names, canvas } = this.parts;
    const count = this.slabs && this.on ? this.layout.layers : 0;
    while (names.childElementCount > count) names.lastElementChild?.remove();
    while (names.childElementCount < count) {
      const name = document.createElement('span');
      name.textContent = `layer ${names.childElementCount}`;
      names.append(name);
    }
    for (const [l, name] of [...names.children].entries()) {
      const [x, z] = origin(this.layout, l);
      const [px, py] = this.camera.project(x - 0.5, z + this.layout.rows);
      const left = ((px + 1) / 2) * canvas.clientWidth;
      const top = ((1 - py) / 2) * canvas.clientHeight;
      (name as HTMLElement).style.transform = `translate(${left.toFixed(1)}px, ${top.toFixed(1)}px)`;
    }
  }

  private listen(canvas: HTMLCanvasElement): void {
    const pointers = new Map<number, PointerEvent>();
    canvas.addEventListener('pointerdown', (event) => {
      pointers.set(event.pointerId, event);
      canvas.setPointerCapture(event.pointerId);
    });
    for (const end of ['pointerup', 'pointercancel'] as const)
      canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
    canvas.addEventListener('pointermove', (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) {
        this.point(event.offsetX, event.offsetY);
        return;
      }
      if (pointers.size === 1) {
        this.camera.orbit((before.clientX - event.clientX) * 0.006, (event.clientY - before.clientY) * 0.006);
      } else {
        const [other] = [...pointers.values()].filter(({ pointerId }) => pointerId !== event.pointerId);
        const apart = (one: PointerEvent) =>
          Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
        this.camera.zoomBy(apart(event) / Math.max(1, apart(before)));
      }
      pointers.set(event.pointerId, event);
      this.refresh();
    });
    canvas.addEventListener('pointerleave', () => this.choose(null));
    canvas.addEventListener(
      'wheel',
      (event) => {
        event.preventDefault();
        this.camera.zoomBy(Math.exp(-event.deltaY * 0.0015));
        this.refresh();
      },
      { passive: false },
    );
    canvas.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !this.press(event.key, event.shiftKey)) return;
      event.preventDefault();
      this.refresh();
    });
  }

  /** @returns whether the key means something here. */
  private press(key: string, shift: boolean): boolean {
    const { camera } = this;
    const arrows: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    };
    const arrow = arrows[key];
    if (arrow && shift) this.step(...arrow);
    else if (arrow) camera.orbit(arrow[0] * STEP, -arrow[1] * STEP);
    else if (key === '+' || key === '=') camera.zoomBy(1.2);
    else if (key === '-') camera.zoomBy(1 / 1.2);
    else if (key === '0') camera.reset();
    else if (key === 'Escape') this.choose(null);
    else return false;
    return true;
  }

  /** The cursor goes on to a neighbouring cell, at a plate's edge to the next plate. */
  private step(x: number, z: number): void {
    if (!this.slabs) return;
    const { columns, slots, layers } = this.layout;
    const { layer, slot } = this.chosen ?? { layer: 0, slot: -x };
    const next = slot + x + z * columns;
    if (next >= 0 && next < slots) this.choose({ layer, slot: next });
    else
      this.choose({ layer: (layer + (next < 0 ? layers - 1 : 1)) % layers, slot: next < 0 ? slots - 1 : 0 });
  }

  private point(x: number, y: number): void {
    if (!this.slabs || !this.on) return;
    const { clientWidth, clientHeight } = this.parts.canvas;
    const floor = this.camera.floorAt((2 * x) / clientWidth - 1, 1 - (2 * y) / clientHeight, 0.4);
    this.choose(floor && cellAt(this.layout, ...floor));
  }

  private choose(cell: { layer: number; slot: number } | null): void {
    const { chosen } = this;
    if (cell?.layer === chosen?.layer && cell?.slot === chosen?.slot) return;
    this.chosen = cell;
    this.refresh();
    void this.tell();
  }

  /** What the chosen cell holds, read from the device: one reading at a time, the last one chosen at the end. */
  private async tell(): Promise<void> {
    if (this.reading) return;
    const { tip } = this.parts;
    const { chosen } = this;
    const at = chosen && this.scene.stateOf(chosen.layer, chosen.slot);
    if (!chosen || !at) {
      tip.textContent = '';
      return;
    }
    this.reading = true;
    try {
      const words = new Uint32Array(await readBuffer(this.device, at.buffer, at.offset, 16));
      tip.textContent = describe(chosen, words, this.token);
    } catch {
      tip.textContent = ''; // the slab went while it was read
    } finally {
      this.reading = false;
    }
    if (this.chosen !== chosen) await this.tell();
  }
}

function describe(
  { layer, slot }: { layer: number; slot: number },
  state: Uint32Array,
  token: number,
): string {
  const [row, written, used] = state;
  const where = `layer ${layer}, slot ${slot}`;
  if (row === 0) return `${where}: empty`;
  const ago = (then: number): string => {
    const tokens = token - then;
    return tokens <= 0 ? 'at this token' : `${tokens} token${tokens === 1 ? '' : 's'} ago`;
  };
  return `${where}: row ${row - 1}, written ${ago(written)}, ${used === token ? 'active' : `last used ${ago(used)}`}`;
}
