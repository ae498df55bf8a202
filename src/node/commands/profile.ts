import Table from 'cli-table3';
import { OptionError, ShapeError } from '../../errors.js';
import { destroyBuffer, storageBuffer } from '../../gpu/buffers.js';
import type { StoredDtype } from '../../gpu/layout.js';
import type { StorageChoice } from '../../gpu/storage.js';
import { tuningOf } from '../../gpu/tuning.js';
import { Sampler } from '../../llama/sample.js';
import { LlamaSession } from '../../llama/session.js';
import { Bitmask } from '../../mask/index.js';
import { type Compute, checkCompute } from '../../mlp/compute.js';
import { fusedUpdate } from '../../mlp/fused-update.js';
import { SparseMLP } from '../../mlp/sparse-mlp.js';
import type { Strategy } from '../../mlp/strategy.js';
import {
  type MLPProfile,
  type ModelProfile,
  type Profile,
  profileMLP,
  profileModel,
} from '../../tune/profile.js';
import { randomSource, shuffle, type Stats } from '../../tune/stats.js';
import { type NodeDevice, requestDevice } from '../device.js';
import { type ModeFlags, modeOptions } from '../mode-options.js';
import { announce, type OpenModel, openModel } from '../model.js';
import { Progress } from '../progress.js';
import { warnIfDense } from './generate.js';
import { SHIPPED_MODEL } from './start.js';

export interface ProfileFlags extends ModeFlags {
  model?: string;
  shape?: Shape;
  density: number;
  writes: number;
  batch: number;
  position: number;
  strategy: Strategy;
  dtype?: StoredDtype;
  storage?: StorageChoice;
  compute: Compute;
  repeats: number;
  ceiling: boolean;
  adapter?: string;
  autotune?: boolean;
  json?: boolean;
}

export interface Shape {
  hidden: number;
  rows: number;
}

/** `HIDDENxROWS`; null when it is not. */
export function parseShape(text: string): Shape | null {
  const [, hidden, rows] = /^(\d+)x(\d+)$/.exec(text) ?? [];
  return Number(hidden) > 0 && Number(rows) > 0 ? { hidden: Number(hidden), rows: Number(rows) } : null;
}

/** Tokens decoded before the profiled one: slabs hold what a step finds there, and kernels are compiled. */
const WARM_UP = 2;
/** What the profiled token comes after, repeated as often as it takes. */
const TEXT =
  'It is my duty to report to you on the state of the union, and to recommend such measures as seem to me necessary. ';

/** Says where the time of a model's decode step goes, or of one MLP's. */
export async function runProfile(flags: ProfileFlags): Promise<void> {
  const { shape, repeats, position, batch, density, writes } = flags;
  if (shape && flags.model !== undefined)
    throw new OptionError('give one of --model DIR and --shape, not both.');
  checkFrom('--repeats', repeats, 1);
  checkFrom('--position', position, 1);
  checkFrom('--batch', batch, 1);
  checkShare('--density', density);
  checkShare('--writes', writes);
  await (shape ? runShape(flags, shape) : runModel(flags, flags.model ?? SHIPPED_MODEL));
}

async function runModel(flags: ProfileFlags, path: string): Promise<void> {
  const { strategy, mode, dtype, storage, compute, position, adapter, autotune } = flags;
  const chosen = await modeOptions(path, flags);
  const model = await openModel({ model: path, adapter, dtype, storage, compute, autotune });
  try {
    const session = new LlamaSession(model.gpu.device, model.weights, {
      strategy,
      ...chosen,
      compute,
      // Replayed, a plan made on the device finds its rows in the slab already.
      planOn: 'host',
    });
    warnIfDense(mode, model.weights.config.hiddenAct, session.strategy);
    try {
      const token = await advance(session, model, position);
      const { logits: _, ...profile } = await profiled(flags, (options) =>
        profileModel(session, token, options),
      );
      const { active } = profile.step;
      const details = {
        model: path,
        mode,
        activeShare: active && share(active, model.weights.config.intermediateSize),
      };
      const { dtype: stored, layers } = model.weights;
      print({ ...flags, dtype: stored, storage: layers[0].gate.storage }, model.gpu, details, profile);
    } finally {
      session.destroy();
    }
  } finally {
    await model.close();
  }
}

/** Feeds `position` tokens, the last few one by one. @returns the token that comes next. */
async function advance(session: LlamaSession, model: OpenModel, position: number): Promise<number> {
  const { context, config } = model.weights;
  if (position + 2 > context) {
    throw new ShapeError(
      `--position ${position} leaves no room for two more tokens in the context of ${context}.`,
      { position, context },
    );
  }
  const warm = Math.min(WARM_UP, position - 1);
  const ids = await prompt(model, position - warm, config.vocabSize);
  const greedy = new Sampler();
  let token = greedy.pick(await session.prefill(ids));
  for (let i = 0; i < warm; i++) token = greedy.pick(await session.next(token));
  return token;
}

/** Some text, so that as many rows are active as usual; without a tokenizer, tokens from all over the vocabulary. */
async function prompt(model: OpenModel, length: number, vocab: number): Promise<number[]> {
  const codec = await model.text().catch(() => null);
  if (!codec) return Array.from({ length }, (_, i) => (i * 7919 + 11) % vocab);
  const ids = codec.encode(TEXT);
  return Array.from({ length }, (_, i) => ids[i % ids.length]);
}

async function runShape(flags: ProfileFlags, { hidden, rows }: Shape): Promise<void> {
  const {
    strategy,
    dtype = 'f32',
    storage = 'auto',
    compute,
    density,
    writes,
    batch,
    adapter,
    autotune,
  } = flags;
  checkCompute(compute, dtype);
  const gpu = await requestDevice({ adapter, tuning: autotune === false ? false : undefined });
  announce(gpu);
  const { device } = gpu;
  const buffers: GPUBuffer[] = [];
  const buffer = (label: string, bytes: number): GPUBuffer => {
    const made = storageBuffer(device, label, bytes);
    buffers.push(made);
    return made;
  };
  try {
    if (hidden * rows > 1 << 25) process.stderr.write(`making weights of ${rows} rows of ${hidden}\n`);
    // One matrix serves as all three: what it holds changes no time, as long as nothing is denormal.
    const values = someValues(hidden * rows);
    const mlp = await SparseMLP.create(device, {
      hidden,
      gate: values,
      up: values,
      down: values,
      downRows: true,
      dtype,
      storage,
      compute,
      fused: fusedUpdate,
    });
    try {
      const x = buffer('profile x', Math.ceil(batch / 8) * 8 * mlp.inputStride * 4);
      const y = buffer('profile y', batch * hidden * 4);
      const { previous, mask } = masks(rows, Math.max(1, Math.round(density * rows)), writes);
      const step = { x, y, batch, mask, previous, strategy };
      const profile = await profiled(flags, (options) => profileMLP(mlp, step, options));
      const active = mask.count();
      print(
        { ...flags, dtype, storage: mlp.pool.storage },
        gpu,
        { hidden, rows, batch, active, activeShare: active / rows },
        profile,
      );
    } finally {
      mlp.destroy();
    }
  } finally {
    for (const made of buffers) destroyBuffer(device, made);
    gpu.destroy();
  }
}

/** Uniform in ±0.5, repeating: quickly made. */
function someValues(length: number): Float32Array {
  const values = new Float32Array(length);
  const block = Math.min(length, 1021 * 64);
  for (let i = 0; i < block; i++) values[i] = ((i * 7919) % 1021) / 1021 - 0.5;
  for (let at = block; at < length; at *= 2) values.copyWithin(at, 0, at);
  return values;
}

/** Two masks of m random rows each, as far as there are rows for it a share `writes` of the second not in the first. */
function masks(rows: number, m: number, writes: number): { previous: Bitmask; mask: Bitmask } {
  const order = shuffle(
    Array.from({ length: rows }, (_, i) => i),
    randomSource(1),
  );
  const changed = Math.min(Math.round(writes * m), rows - m);
  const of = (ids: readonly number[]): Bitmask => Bitmask.fromIds(ids, rows);
  return { previous: of(order.slice(0, m)), mask: of(order.slice(changed, m + changed)) };
}

async function profiled<T extends Profile>(
  { repeats, ceiling }: ProfileFlags,
  run: (options: {
    repeats: number;
    ceiling: boolean;
    onProgress: (done: number, total: number, what: string) => void;
  }) => Promise<T>,
): Promise<T> {
  const progress = new Progress('profile');
  try {
    return await run({ repeats, ceiling, onProgress: (...at) => progress.update(...at) });
  } finally {
    progress.end();
  }
}

function print(
  flags: ProfileFlags,
  { adapter, device }: NodeDevice,
  details: Record<string, string | number | null>,
  profile: Omit<ModelProfile, 'logits'> | MLPProfile,
): void {
  const { strategy, dtype, storage, compute } = flags;
  const conditions = {
    adapter: adapter.name,
    device: adapter.deviceName,
    driver: adapter.info.description,
    robustness: true,
    tuned: tuningOf(device) !== null,
    strategy,
    dtype,
    storage,
    compute,
    ...details,
  };
  if (flags.json) {
    process.stdout.write(`${JSON.stringify({ ...conditions, ...profile })}\n`);
    return;
  }
  process.stdout.write(`${tableOf(profile)}\n${summary(profile)}\n`);
  const shown = Object.entries(details)
    .filter(([, value]) => value !== null)
    .map(([name, value]) =>
      name === 'activeShare' ? `${percent(value as number)} of rows active` : `${name} ${value}`,
    );
  const variants = conditions.tuned ? 'tuned variants' : 'default variants';
  const line = [
    `adapter ${adapter.name} (${adapter.deviceName})`,
    `dtype ${dtype}`,
    `rows in ${storage}s`,
    `compute ${compute}`,
    `strategy ${strategy}`,
    variants,
  ];
  process.stdout.write(
    `${[...line, ...shown, `timer ${profile.timer}`, `${profile.repeats} repeats`, 'robustness on'].join(', ')}\n`,
  );
}

function tableOf(profile: Profile): string {
  const table = new Table({
    head: ['kernel', 'dispatches', 'µs a step', 'p10 to p90', 'share', 'MB', 'GB/s', 'of read ceiling'],
    style: { head: [], border: [] },
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
    colAligns: ['left', 'right', 'right', 'right', 'right', 'right', 'right', 'right'],
  });
  const row = (
    name: string,
    n: number,
    ms: Stats,
    of: number,
    rate: Pick<Profile, 'gbps' | 'ofCeiling'> | null,
    bytes: number | null,
  ) =>
    table.push([
      name,
      n,
      micro(ms.median),
      `${micro(ms.p10)} to ${micro(ms.p90)}`,
      percent(of),
      bytes === null ? '–' : (bytes / 1e6).toFixed(3),
      rate ? rate.gbps.toFixed(2) : '–',
      rate?.ofCeiling === null || !rate ? '–' : percent(rate.ofCeiling),
    ]);
  for (const { name, storage, dispatches, ms, share: of, bytes, gbps, ofCeiling } of profile.kernels) {
    row(
      storage === 'texture' ? `${name} (texture)` : name,
      dispatches,
      ms,
      of,
      gbps === null ? null : { gbps, ofCeiling },
      bytes,
    );
  }
  const { parts, bytes, dispatches, partsOfCeiling } = profile;
  const gbps = bytes / parts.median / 1e6;
  row('total', dispatches.length, parts, 1, { gbps, ofCeiling: partsOfCeiling }, bytes);
  return table.toString();
}

function summary({
  timer,
  parts,
  empty,
  device,
  wall,
  overheadPerDispatch,
  gbps,
  ofCeiling,
  ceilings,
}: Profile): string {
  const held = ofCeiling === null ? '' : `, ${percent(ofCeiling)} of the read ceiling`;
  const emptied =
    timer === 'timestamp-query' ? 'each includes a pass, which empty takes' : 'each is less an empty submit,';
  const lines = [
    `sum of the parts  ${spread(parts)}; ${emptied} ${micro(empty.median)} µs`,
    `in one pass       ${spread(device)}: ${gbps.toFixed(2)} GB/s${held}; ` +
      `${signed(overheadPerDispatch)} µs a dispatch against the parts`,
  ];
  if (wall) {
    const more = wall.median - device.median;
    lines.push(
      `wall time         ${spread(wall)}: ${signed(more)} µs against one pass, to record, submit and wait`,
    );
  }
  for (const [storage, { before, after, median }] of Object.entries(ceilings ?? {})) {
    lines.push(
      `read ceiling      of ${storage}s: ${median.toFixed(2)} GB/s (before ${before.median.toFixed(2)}, after ${after.median.toFixed(2)})`,
    );
  }
  return lines.join('\n');
}

const micro = (ms: number): string => (ms * 1000).toFixed(1);
const signed = (ms: number): string => `${ms < 0 ? '' : '+'}${micro(ms)}`;
const percent = (value: number): string => `${(100 * value).toFixed(1)} %`;
const spread = ({ median, p10, p90 }: Stats): string =>
  `${micro(median)} µs (p10 ${micro(p10)}, p90 ${micro(p90)})`;
const share = (active: readonly number[], rows: number): number =>
  active.reduce((a, b) => a + b, 0) / active.length / rows;

function checkFrom(flag: string, value: number, least: number): void {
  if (!(value >= least))
    throw new OptionError(`${flag} must be ${least} or more; it is ${value}.`, { flag, value });
}

function checkShare(flag: string, value: number): void {
  if (!(value >= 0 && value <= 1)) {
    throw new OptionError(`${flag} must be from 0 to 1; it is ${value}.`, { flag, value });
  }
}
