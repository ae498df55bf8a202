/**
 * Wear: as many losses of the device as are asked for, each with the tokens that there were without it, then decoding
 * for as long as is asked for, with the GPU's bytes and the heap watched. `npm run soak -- --help`.
 */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { OptionError, PairslabError } from '../src/errors.js';
import { gpuBytes } from '../src/gpu/buffers.js';
import { recovering } from '../src/gpu/recovering.js';
import { setWaiter } from '../src/gpu/wait.js';
import { openCheckpoint } from '../src/llama/checkpoint.js';
import { LlamaSession, type SessionOptions } from '../src/llama/session.js';
import { type LlamaWeights, type LoadOptions, loadWeights } from '../src/llama/weights.js';
import { type NodeDevice, requestDevice } from '../src/node/device.js';
import { announce } from '../src/node/model.js';
import { DiskFolder } from '../src/node/model-folder.js';
import { Progress } from '../src/node/progress.js';
import { quietWait } from '../src/node/quiet-wait.js';
import { randomSource } from '../src/tune/stats.js';
import { smallModel } from '../test/support/make-model.js';
import { Console } from './lib/context.js';
import { provenance, writeWhole } from './lib/report.js';

const HELP = `npm run soak -- [options]

  --recoveries N   losses of the device, at random moments, each by another strategy in turn (default 1000)
  --minutes N      then decodes for so long, watching GPU bytes and heap (default 30)
  --model DIR      a model folder; default: a tiny made one, so that what is worn is the library
  --adapter NAME   as pairslab's own
  --seed N         of the moments (default 1)
  --json FILE      writes what was found; also after Ctrl-C
  --help

Ends with 1 when tokens differed, or bytes or heap grew.
`;

const WAYS: readonly { name: string; session: SessionOptions; load?: LoadOptions }[] = [
  { name: 'dense', session: { strategy: 'dense' } },
  { name: 'indexed', session: { strategy: 'indexed' } },
  { name: 'auto', session: { strategy: 'auto' } },
  { name: 'repack', session: { strategy: 'repack' } },
  { name: 'paired', session: { strategy: 'paired' } },
  { name: 'paired, host', session: { strategy: 'paired', planOn: 'host' } },
  { name: 'budget', session: {}, load: { budget: { share: 0.3 } } },
];
/** Tokens fed at once after the prompt: 0 stands for one by itself, whose logits come to the host. */
const STEPS = [1, 0, 4, 0, 7];
/** The heap may grow by so much in an hour, or by its own noise: a leak of a token's logits would be a hundred times it. */
const HEAP_BYTES_AN_HOUR = 8 << 20;
const SAMPLE_MS = 2000;

interface Recoveries {
  asked: number;
  done: number;
  equal: number;
  byWay: Record<string, { done: number; equal: number }>;
  /** Bytes on devices that were lost, and on the last one once all was destroyed: 0. */
  bytesLeft: number;
  seconds: number;
  secondsEach: number;
}

interface Soak {
  minutes: number;
  tokens: number;
  tokensPerSecond: number;
  samples: { seconds: number; gpuBytes: number; heapBytes: number }[];
  gpuBytesConstant: boolean;
  heapBytesPerHour: number;
  /** What of that slope is within its own noise (two standard errors). */
  heapNoisePerHour: number;
  heapConstant: boolean;
}

class Devices {
  private readonly adapter: string | undefined;
  current?: NodeDevice;

  constructor(adapter: string | undefined) {
    this.adapter = adapter;
  }

  async next(): Promise<GPUDevice> {
    this.current = await requestDevice({ adapter: this.adapter, tuning: false });
    return this.current.device;
  }
}

/** The likeliest tokens after the prompt. */
async function text(
  session: LlamaSession,
  prompt: readonly number[],
  recover?: () => Promise<GPUDevice>,
): Promise<number[]> {
  const step = <T>(work: () => Promise<T>) => (recover ? recovering(session, recover, work) : work());
  session.reset();
  const tokens = [argmax(await step(() => session.prefill(prompt)))];
  const last = () => tokens[tokens.length - 1];
  for (const count of STEPS) {
    if (count === 0) tokens.push(argmax(await step(() => session.next(last()))));
    else tokens.push(...(await step(() => session.greedy(last(), count))).tokens);
  }
  return tokens;
}

const argmax = (logits: Float32Array): number =>
  logits.reduce((best, value, i) => (value > logits[best] ? i : best), 0);

/** Destroys `device` at the wait of this number from now; counts them. */
function loseAt(device: GPUDevice, at: number): () => number {
  let waits = 0;
  setWaiter(device, (promise) => {
    if (waits++ === at) device.destroy();
    return quietWait(promise);
  });
  return () => waits;
}

type Open = (
  device: GPUDevice,
  way: (typeof WAYS)[number],
) => Promise<{ weights: LlamaWeights; session: LlamaSession; prompt: readonly number[] }>;

async function recover(
  devices: Devices,
  open: Open,
  { asked, seed, stopped }: { asked: number; seed: number; stopped: () => boolean },
  found: Recoveries,
): Promise<void> {
  const random = randomSource(seed);
  const progress = new Progress('recoveries');
  const started = performance.now();
  const each = Math.ceil(asked / WAYS.length);
  for (const way of WAYS) {
    if (stopped() || found.done >= asked) break;
    const of = { done: 0, equal: 0 };
    found.byWay[way.name] = of;
    const { weights, session, prompt } = await open(await devices.next(), way);
    const want = await text(session, prompt);
    const count = loseAt(session.device, -1);
    await text(session, prompt);
    const waits = count();
    for (let n = 0; n < each && found.done < asked && !stopped(); n++) {
      const lost = session.device;
      loseAt(lost, Math.floor(random() * waits));
      const got = await text(session, prompt, () => devices.next());
      if (session.device === lost) throw new Error(`${way.name}: the device was not lost`);
      found.bytesLeft += gpuBytes(lost);
      found.done++;
      of.done++;
      if (got.length === want.length && got.every((id, i) => id === want[i])) {
        found.equal++;
        of.equal++;
      }
      found.seconds = (performance.now() - started) / 1000;
      found.secondsEach = found.seconds / found.done;
      progress.update(found.done, asked, way.name);
    }
    const { device } = session;
    session.destroy();
    weights.destroy();
    found.bytesLeft += gpuBytes(device);
    device.destroy();
  }
  progress.end();
}

async function soak(
  devices: Devices,
  open: Open,
  { minutes, stopped }: { minutes: number; stopped: () => boolean },
  found: Soak,
): Promise<void> {
  const device = await devices.next();
  const progress = new Progress('soak');
  const opened: Awaited<ReturnType<Open>>[] = [];
  for (const way of WAYS) opened.push(await open(device, way));
  const round = async () => {
    for (const { session, prompt } of opened) found.tokens += (await text(session, prompt)).length;
  };
  // What is made on first use is made now.
  for (let n = 0; n < 3; n++) await round();
  found.tokens = 0;
  const started = performance.now();
  const seconds = () => (performance.now() - started) / 1000;
  for (let next = 0; seconds() < minutes * 60 && !stopped(); ) {
    await round();
    if (seconds() * 1000 < next) continue;
    next = seconds() * 1000 + SAMPLE_MS;
    // Twice: what the first frees of the device's objects lets go of more.
    globalThis.gc?.();
    globalThis.gc?.();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    found.samples.push({
      seconds: seconds(),
      gpuBytes: gpuBytes(device),
      heapBytes: heapUsed + arrayBuffers,
    });
    const at = Math.min(minutes * 60, Math.round(seconds()));
    progress.update(at, Math.round(minutes * 60), `s, ${found.tokens} tokens`);
  }
  progress.end();
  found.tokensPerSecond = found.tokens / seconds();
  found.minutes = seconds() / 60;
  for (const { session, weights } of opened) {
    session.destroy();
    weights.destroy();
  }
  found.gpuBytesConstant = found.samples.every((sample) => sample.gpuBytes === found.samples[0].gpuBytes);
  const fit = slope(found.samples.map((sample) => [sample.seconds / 3600, sample.heapBytes]));
  found.heapBytesPerHour = fit.slope;
  found.heapNoisePerHour = 2 * fit.error;
  found.heapConstant = fit.slope - 2 * fit.error <= HEAP_BYTES_AN_HOUR;
  if (gpuBytes(device) !== 0) throw new Error(`${gpuBytes(device)} bytes are left on the device`);
  device.destroy();
}

/** Least squares through the later three quarters, when the JIT has settled, with the slope's standard error. */
function slope(all: readonly (readonly [number, number])[]): { slope: number; error: number } {
  const points = all.slice(Math.floor(all.length / 4));
  const mean = (k: 0 | 1) => points.reduce((sum, point) => sum + point[k], 0) / points.length;
  const [mx, my] = [mean(0), mean(1)];
  const sum = (of: (x: number, y: number) => number) =>
    points.reduce((total, [x, y]) => total + of(x - mx, y - my), 0);
  const xx = sum((x) => x * x);
  const fitted = xx > 0 ? sum((x, y) => x * y) / xx : 0;
  const rest = sum((x, y) => (y - fitted * x) ** 2);
  return { slope: fitted, error: points.length > 2 ? Math.sqrt(rest / (points.length - 2) / xx) : 0 };
}

function count(text: string, name: string): number {
  const value = Number(text);
  if (!(value >= 0)) throw new OptionError(`--${name} must be a number of 0 or more; it is "${text}".`);
  return value;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      recoveries: { type: 'string', default: '1000' },
      minutes: { type: 'string', default: '30' },
      model: { type: 'string' },
      adapter: { type: 'string' },
      seed: { type: 'string', default: '1' },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const asked = Math.ceil(count(values.recoveries, 'recoveries'));
  const minutes = count(values.minutes, 'minutes');
  const seed = count(values.seed, 'seed');
  const { json } = values;
  if (json !== undefined) mkdirSync(dirname(json), { recursive: true });
  const devices = new Devices(values.adapter);
  await devices.next();
  const gpu = devices.current as NodeDevice;
  announce(gpu);
  const head = provenance({
    gpu,
    robustness: true,
    quick: false,
    full: false,
    timer: 'none',
    suites: ['soak'],
  });
  const folder = values.model === undefined ? smallModel() : await DiskFolder.at(values.model);
  const checkpoint = await openCheckpoint(folder);
  const { vocabSize } = checkpoint.config;
  const prompt = Array.from({ length: 11 }, (_, i) => (7 * i * i + 3) % vocabSize);
  const open: Open = async (device, { session, load }) => {
    const weights = await loadWeights(device, checkpoint, { context: 64, ...load });
    const options = { prefillChunk: 4, ...session };
    return { weights, session: await LlamaSession.create(device, weights, options), prompt };
  };
  let interrupted = false;
  process.on('SIGINT', () => {
    // The step under way is finished; a second one ends at once.
    if (interrupted) process.exit(130);
    interrupted = true;
  });
  const stopped = () => interrupted;
  const recoveries: Recoveries = {
    asked,
    done: 0,
    equal: 0,
    byWay: {},
    bytesLeft: 0,
    seconds: 0,
    secondsEach: 0,
  };
  const worn: Soak = {
    minutes: 0,
    tokens: 0,
    tokensPerSecond: 0,
    samples: [],
    gpuBytesConstant: true,
    heapBytesPerHour: 0,
    heapNoisePerHour: 0,
    heapConstant: true,
  };
  try {
    if (asked > 0) await recover(devices, open, { asked, seed, stopped }, recoveries);
    if (minutes > 0 && !interrupted) await soak(devices, open, { minutes, stopped }, worn);
  } finally {
    if (json !== undefined)
      writeWhole(
        json,
        `${JSON.stringify({ provenance: head, interrupted, recoveries, soak: worn }, null, 2)}\n`,
      );
  }
  if ('close' in folder) await folder.close();
  gpu.destroy();
  const terminal = new Console();
  const { done, equal, bytesLeft, secondsEach } = recoveries;
  if (done > 0)
    terminal.log(
      `recoveries: ${equal} of ${done} with equal tokens, ${bytesLeft} bytes left, ${secondsEach.toFixed(2)} s each`,
    );
  if (worn.samples.length > 0) {
    const bytes = worn.gpuBytesConstant ? 'constant' : 'NOT constant';
    const mib = (n: number) => (n / 2 ** 20).toFixed(2);
    terminal.log(
      `soak: ${worn.minutes.toFixed(1)} min, ${worn.tokens} tokens; GPU bytes ${bytes} (${worn.samples[0].gpuBytes}); ` +
        `heap ${mib(worn.heapBytesPerHour)} ± ${mib(worn.heapNoisePerHour)} MiB an hour`,
    );
  }
  if (interrupted) return 130;
  return equal === done && bytesLeft === 0 && worn.gpuBytesConstant && worn.heapConstant ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  const wrongOption = error instanceof TypeError && 'code' in error;
  if (!(error instanceof PairslabError || wrongOption)) throw error;
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}
