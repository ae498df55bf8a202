import { recovery } from '../../src/index.js';
import type { ModelFolder } from '../../src/pool/index.js';
import type { DecodeRun, LlamaSession } from '../../src/llama/index.js';
import { Charts } from './charts.js';
import { Controls } from './controls.js';
import { openDevice } from './device.js';
import { type Answer, Engine, type EngineEvents } from './engine.js';
import { figuresOf, formatBytes, slabRowBytes } from './figures.js';
import { droppedFiles, folderAt, folderOfFiles, KeptFolder } from './model/folders.js';
import { WholeFiles } from './model/whole-files.js';
import { clearError, element, showError, showUnsupported } from './page.js';
import { palette } from './theme.js';
import { Governor } from './view/governor.js';
import { SlabView } from './view/slab-view.js';

const SHIPPED_FILES = [
  'config.json',
  'model.safetensors',
  'tokenizer.json',
  'tokenizer_config.json',
  'heldout.txt',
];
const shipped = (): ModelFolder =>
  new WholeFiles(new URL('./models/statesman/', document.baseURI), SHIPPED_FILES);

const status = element('status');
const progress = element<HTMLProgressElement>('progress');
const writeButton = element<HTMLButtonElement>('write');
const stopButton = element<HTMLButtonElement>('stop');
const controls = new Controls((settings) => {
  clearError();
  void engine?.apply(settings).catch(showError);
});
const charts = new Charts(element('charts'));

let device: GPUDevice | null = null;
let view: SlabView | null = null;
let engine: Engine | null = null;
let session: LlamaSession | null = null;
/** Ends what is being written; null when nothing is. */
let writing: AbortController | null = null;
/** How often the device was lost. */
let losses = 0;
/** Loads take turns. */
let loads: Promise<void> = Promise.resolve();

function look(to: LlamaSession | null): void {
  session = to;
  view?.attach(to);
}

const events: EngineEvents = {
  onLoad(done, total, name) {
    progress.hidden = false;
    progress.max = total;
    progress.value = done;
    if (name) status.textContent = `${name}: ${done} of ${total}${bytesRead}`;
  },
  onBusy(what) {
    status.textContent = what;
    progress.hidden = what === '';
  },
  onSession(to) {
    look(to);
    if (to && writing && losses > 0) status.textContent = `${lostWords(losses)}; writing on on another.`;
  },
  onRefused(error) {
    showError(error);
    if (engine) controls.show(engine.settings);
  },
};
let bytesRead = '';

/** A device in place of one that was lost, for all that was on it. */
const recover = recovery({
  requestDevice: takeDevice,
  onLost() {
    losses++;
    status.textContent = `${lostWords(losses)}: asking the browser for another.`;
  },
});
const lostWords = (times: number): string =>
  `The GPU device was lost ${times === 1 ? 'once' : `${times} times`}`;

/** Takes a model in place of the one there is, which stays when this one cannot be had. */
function load(from: ModelFolder): Promise<void> {
  loads = loads.then(async () => {
    if (!device) return;
    clearError();
    writing?.abort();
    const old = engine;
    status.textContent = `opening ${from.name}`;
    bytesRead = '';
    const kept = new KeptFolder(from, (bytes) => {
      bytesRead = `, ${formatBytes(bytes)} read`;
    });
    try {
      const fresh = await Engine.open(device, kept, controls.read(), calibrationText, events, recover);
      engine = fresh;
      old?.destroy();
      look(fresh.current);
      controls.only(fresh.checkpoint.bundle?.dtype ?? null);
      const { layers, hiddenSize, intermediateSize, hiddenAct } = fresh.checkpoint.config;
      element('model-name').textContent =
        `${nameOf(from)}: ${layers} layers, hidden ${hiddenSize}, ${intermediateSize} rows a layer, ${hiddenAct}`;
      status.textContent =
        hiddenAct === 'relu'
          ? 'Ready.'
          : `Ready. With ${hiddenAct} no row is exactly zero: mode threshold is what leaves rows out.`;
      writeButton.disabled = false;
    } catch (error) {
      status.textContent = old ? 'The model before is still there.' : 'No model is loaded.';
      if (old) look(old.current);
      showError(error);
    } finally {
      progress.hidden = true;
    }
  });
  return loads;
}

const nameOf = ({ name }: ModelFolder): string =>
  name.replace(/\/$/, '').split('/').at(-1)?.slice(0, 80) ?? name;

async function calibrationText(): Promise<string> {
  const source = await shipped().open('heldout.txt');
  if (!source) throw new Error('the page has no text to find thresholds on');
  return new TextDecoder().decode(await source.read(0, Math.min(source.size, 8192)));
}

async function write(): Promise<void> {
  if (!engine || writing) return;
  clearError();
  const mine = new AbortController();
  writing = mine;
  writeButton.disabled = true;
  stopButton.disabled = false;
  const prompt = element<HTMLTextAreaElement>('prompt').value;
  element('asked').textContent = prompt;
  const written = element('written');
  written.textContent = '';
  const box = element('text');
  for (const id of ['first-token', 'rate', 'tokens', 'ended']) element(id).textContent = '–';
  charts.clear();
  status.textContent = 'writing';
  if (view) view.decoding = true;
  const lostBefore = losses;
  const started = performance.now();
  try {
    const answer = await engine.write({
      prompt,
      maxTokens: element<HTMLInputElement>('max-tokens').valueAsNumber,
      temperature: element<HTMLInputElement>('temperature').valueAsNumber,
      seed: 0,
      signal: mine.signal,
      onText(text) {
        if (written.textContent === '')
          element('first-token').textContent = `${(performance.now() - started).toFixed(0)} ms`;
        // As text, whatever a tokenizer says.
        written.append(text);
        box.scrollTop = box.scrollHeight;
      },
      onRun: painter(),
    });
    report(answer, losses - lostBefore);
  } catch (error) {
    status.textContent = '';
    showError(error);
  } finally {
    writing = null;
    stopButton.disabled = true;
    writeButton.disabled = false;
    charts.draw();
    if (view) view.decoding = false;
  }
}

const ENDS: Readonly<Record<Answer['stoppedBy'], string>> = {
  length: 'length',
  end: 'end of text',
  context: 'full context',
  abort: 'Stop',
};

function report({ stoppedBy, tokens, stats }: Answer, lost: number): void {
  element('ended').textContent = ENDS[stoppedBy];
  element('tokens').textContent = String(tokens.length);
  const figures = `GPU memory ${formatBytes(stats.gpuBytes)}, ${stats.submitsPerToken.toFixed(2)} submits a token.`;
  status.textContent = lost === 0 ? figures : `${figures} ${lostWords(lost)}; the text went on on another.`;
}

/** Of the time, what pictures and charts may take: together below the 5 % that are promised. */
const SHARES = { view: 0.02, charts: 0.01 };

/** A picture that waits its turn among tokens takes longer than one that is drawn when all is still. */
const FIRST_COSTS_MORE = 4;
let governors: { picture: Governor; drawing: Governor } | null = null;

/** Between two runs of tokens: their figures, and a picture and the charts where the time for them was earned. */
function painter(): (run: DecodeRun) => Promise<void> {
  // Kept from one text to the next: what a picture costs was learned, and what was spent stays spent.
  governors ??= {
    picture: new Governor(SHARES.view, FIRST_COSTS_MORE * (view?.expectedMs ?? 25)),
    drawing: new Governor(SHARES.charts, 15),
  };
  const { picture, drawing } = governors;
  const cost = element('view-cost');
  let ended = performance.now();
  let told = ended;
  let drew = false;
  let tokens = 1;
  let of = session;
  return async ({ tokens: made, steps }) => {
    const now = performance.now();
    // A new session's first kernels were compiled in this run, and its prompt was prefilled: that is not decoding.
    if (of === session) {
      // What is not seen earns nothing for when it is.
      if (view?.wanted) picture.decoded(now - ended, made.length, drew);
      drawing.decoded(now - ended, made.length, false);
    }
    of = session;
    const rate = (1000 * made.length) / (now - told);
    told = now;
    tokens += made.length;
    const rowBytes = session ? slabRowBytes(session.weights) : 0;
    for (const step of steps) {
      charts.add(figuresOf(step, rate, rowBytes));
      view?.decoded(1, step.active);
    }
    element('rate').textContent = rate.toFixed(1);
    element('tokens').textContent = String(tokens);
    // A page that nobody sees has its charts drawn when the text ends.
    if (drawing.due && !document.hidden) {
      const started = performance.now();
      charts.draw();
      drawing.drawn(performance.now() - started);
    }
    drew = Boolean(view?.wanted) && picture.due;
    if (view && drew) {
      const ms = await view.draw();
      if (ms !== null) picture.drawn(ms);
      const share = (100 * (picture.taken + drawing.taken)).toFixed(1);
      cost.textContent = `A picture takes ${picture.frameMs.toFixed(0)} ms; with the charts ${share} % of the time.`;
    }
    ended = performance.now();
  };
}

function listen(): void {
  element('ask').addEventListener('submit', (event) => {
    event.preventDefault();
    void write();
  });
  element('prompt').addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    void write();
  });
  stopButton.addEventListener('click', () => writing?.abort());
  element('error-close').addEventListener('click', clearError);
  element<HTMLInputElement>('view-on').addEventListener('change', ({ target }) => {
    const on = (target as HTMLInputElement).checked;
    element('view').hidden = !on;
    if (view) view.enabled = on;
  });
  element('fetch').addEventListener('submit', (event) => {
    event.preventDefault();
    take(() => folderAt(element<HTMLInputElement>('address').value));
  });
  element('shipped').addEventListener('click', () => take(shipped));
  for (const id of ['files', 'folder']) {
    element<HTMLInputElement>(id).addEventListener('change', ({ target }) => {
      const input = target as HTMLInputElement;
      const files = [...(input.files ?? [])].map((file) => ({
        path: file.webkitRelativePath || file.name,
        file,
      }));
      input.value = '';
      if (files.length > 0) take(() => folderOfFiles(files));
    });
  }
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    document.body.classList.add('dropping');
  });
  document.addEventListener('dragleave', () => document.body.classList.remove('dropping'));
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    document.body.classList.remove('dropping');
    const { dataTransfer } = event;
    if (dataTransfer) take(async () => folderOfFiles(await droppedFiles(dataTransfer)));
  });
}

/** Loads the folder that someone chose, or says why it is none. */
async function take(choose: () => ModelFolder | Promise<ModelFolder>): Promise<void> {
  try {
    await load(await choose());
  } catch (error) {
    showError(error);
  }
}

/** The device that the page is on from now on. Whatever is there when it is lost is brought to another at once. */
async function takeDevice(): Promise<GPUDevice> {
  const { device: taken, name } = await openDevice();
  element('adapter').textContent = name;
  taken.addEventListener('uncapturederror', ({ error }) => showError(error));
  void taken.lost.then(({ reason }) => {
    if (reason !== 'destroyed') void revive();
  });
  device = taken;
  return taken;
}

async function revive(): Promise<void> {
  if (!engine) return;
  // Else what is being written tells of it.
  const idle = writing === null;
  try {
    await engine.revive();
    if (idle) status.textContent = `${lostWords(losses)}; the model is on another.`;
  } catch (error) {
    status.textContent = '';
    showError(error);
  }
}

/** A device, a view on it and the model. */
async function start(): Promise<void> {
  const first = await takeDevice();
  element('app').hidden = false;
  const parts = {
    canvas: element<HTMLCanvasElement>('canvas'),
    names: element('names'),
    tip: element('tip'),
    none: element('no-slab'),
  };
  view = new SlabView(first, parts, palette);
  await load(folder);
}

listen();
const asked = new URL(location.href).searchParams.get('model');
let folder = shipped();
try {
  if (asked) folder = folderAt(asked);
} catch (error) {
  showError(error);
}
start().catch(showUnsupported);
