import type { Checkpoint } from '../../src/llama/checkpoint.js';
import { openCheckpoint } from '../../src/llama/checkpoint.js';
import { type StepAverages, summariseSteps } from '../../src/llama/generate.js';
import { Sampler } from '../../src/llama/sample.js';
import { LlamaSession, type SessionOptions, type StepStats } from '../../src/llama/session.js';
import { type LlamaWeights, type LoadOptions, loadWeights } from '../../src/llama/weights.js';
import { cacheFolderFiles } from '../../src/node/cache-files.js';
import { HTTP_GAP_BYTES } from '../../src/node/model.js';
import { openTokenizer } from '../../src/node/text.js';
import { SegmentCache } from '../../src/pool/segment-cache.js';
import { randomSource, ratioOf, shuffle, statsOf } from '../../src/tune/stats.js';
import { meanOver } from './mean-over.js';
import type { BenchContext, Result, SuiteOutcome } from './report.js';
import { type Served, withServed } from './served-model.js';

/** A round each, in turn: a slab that saw the same text before would have its rows. */
const PROMPTS = [
  'The state of the Union is',
  'Our farmers and workers',
  'The Congress has',
  'I recommend that the Treasury',
  'Peace with foreign nations',
  'The expenditures of the year',
  'The Army and the Navy',
  'In the last session',
  'Every citizen has a right to',
  'The public lands',
];
/** Tokens a lane makes before the next has its turn. */
const BLOCK = 16;

/** Where a lane's rows are read from: a converted model's file, or a server, with a cache of all rows or without. */
type Home = 'memory' | 'file' | 'http' | 'http.cached';

interface LaneSpec {
  name: string;
  home?: Home;
  load: LoadOptions;
  session: SessionOptions;
}

/** The same strategy, paired with a wait a layer, with everything on the device: what a budget is measured against. */
const RESIDENT: LaneSpec = { name: 'resident', load: {}, session: { strategy: 'paired', planOn: 'host' } };
/** The same planned on the device: nothing waits for the host. */
const ON_DEVICE: LaneSpec = { name: 'resident.planned_on_device', load: {}, session: { strategy: 'paired' } };
/** Everything on the device, nothing copied and nothing waits for the host. */
const INDEXED: LaneSpec = { name: 'indexed', load: {}, session: { strategy: 'indexed' } };
const BUDGETS = [0.1, 0.25, 0.5, 0.75, 1] as const;
const QUARTER = { budget: { share: 0.25 } };
const far = (home: Home, session: SessionOptions = {}): LaneSpec => ({
  name: `budget25.${home}${session.residency?.prefetch ? '.prefetch' : ''}`,
  home,
  load: { ...QUARTER, pool: 'file' },
  session,
});
const LANES: readonly LaneSpec[] = [
  RESIDENT,
  ON_DEVICE,
  INDEXED,
  ...BUDGETS.map(
    (share): LaneSpec => ({ name: `budget${100 * share}`, load: { budget: { share } }, session: {} }),
  ),
  { name: 'budget25.adaptive', load: QUARTER, session: { residency: { policy: 'adaptive' } } },
  { name: 'budget25.repack', load: QUARTER, session: { strategy: 'repack' } },
  { name: 'budget25.prefetch', load: QUARTER, session: { residency: { prefetch: true } } },
  far('file'),
  far('http'),
  far('http', { residency: { prefetch: true } }),
  far('http.cached'),
];

/** The lanes of a quick run: of the budgets, the one that has lanes of all homes. */
const QUICK = ['resident', 'indexed', 'budget25', 'budget25.prefetch'];

/** One way to run the model, with its sequence. */
class Lane {
  made: number[] = [];
  readonly name: string;
  readonly weights: LlamaWeights;
  readonly session: LlamaSession;
  private readonly times: number[] = [];
  private readonly steps: StepStats[] = [];
  private next = 0;

  constructor({ name, session }: LaneSpec, weights: LlamaWeights, device: GPUDevice) {
    this.name = name;
    this.weights = weights;
    this.session = new LlamaSession(device, weights, session);
  }

  async start(promptIds: ArrayLike<number>): Promise<void> {
    this.session.reset();
    this.next = new Sampler().pick(await this.session.prefill(promptIds));
  }

  async decode(tokens: number): Promise<void> {
    const started = performance.now();
    const { tokens: made, steps } = await this.session.greedy(this.next, tokens);
    const ms = (performance.now() - started) / tokens;
    this.next = made[tokens - 1];
    this.made = made;
    this.times.push(ms);
    this.steps.push(...steps);
  }

  /** What it did since it was made, or since the last `take`. */
  take(): KeptLane {
    const { name, weights, session, times, steps } = this;
    return {
      name,
      times: times.splice(0),
      averages: summariseSteps(weights, session.strategy, steps.splice(0)),
      gpuBytes: weights.bytes + session.bytes,
    };
  }
}

interface KeptLane {
  name: string;
  /** ms a token, a block at a time. */
  times: number[];
  averages: StepAverages;
  /** GPU bytes of weights and session. */
  gpuBytes: number;
}

/**
 * The shipped model in f32 with up and down rows under a budget, against everything on the device; equal tokens
 * required. The lanes take turns, a block of tokens at a time and in shuffled order; ratios are of blocks side by side.
 */
export async function budgetPart(context: BenchContext): Promise<SuiteOutcome> {
  const { lanes, skipped } = await withServed((served) => measure(context, served));
  const results: Result[] = [];
  const summary: Record<string, number> = {};
  const named = (name: string) => lanes.find((lane) => lane.name === name) as KeptLane;
  const [resident, indexed] = [named('resident'), named('indexed')];
  for (const { name, times, averages, gpuBytes } of lanes) {
    const relative = ratioOf(resident.times, times);
    const perSecond = 1000 / statsOf(times).median;
    const overIndexed = ratioOf(indexed.times, times);
    results.push({
      suite: 'beyond',
      case: `decode ${name}`,
      msPerToken: statsOf(times),
      tokensPerSecond: perSecond,
      relativeSpeed: relative,
      relativeTo: 'paired, planned on the host, all rows on the device',
      overIndexed,
      gpuBytes,
      ...averages,
    });
    const prefix = `beyond.${name}`;
    summary[`${prefix}.tokens_per_second`] = perSecond;
    const { residency } = averages;
    if (residency) {
      summary[`${prefix}.relative_speed`] = relative.median;
      summary[`${prefix}.speed_over_indexed`] = overIndexed.median;
      summary[`${prefix}.hit_rate`] = residency.hitRate;
      summary[`${prefix}.uploaded_bytes_per_token`] = residency.uploadedBytes;
      if (residency.prefetch) {
        summary[`${prefix}.prefetch_used_share`] = residency.prefetch.usedShare;
        summary[`${prefix}.prefetch_found_share`] = residency.prefetch.foundShare;
      }
    }
    context.log(
      `${name}: ${perSecond.toFixed(1)} tokens/s, ${relative.median.toFixed(2)}× all resident, ` +
        `${overIndexed.median.toFixed(2)}× indexed` +
        (residency
          ? `, hits ${(100 * residency.hitRate).toFixed(0)} %, ${(residency.uploadedBytes / 1e3).toFixed(0)} kB/token, ${residency.pieces.toFixed(2)} pieces`
          : ''),
    );
  }
  return { results, summary, skipped };
}

/** Round by round, so that an interrupted run loses no more than one. */
async function measure(context: BenchContext, served: Served) {
  const repeats = context.full ? 9 : context.quick ? 2 : 4;
  const skipped = specsOf(context)
    .filter(({ home }) => served.url === null && (home === 'http' || home === 'http.cached'))
    .map(({ name }) => ({ case: `decode ${name}`, reason: served.missing ?? '' }));
  const rounds: KeptLane[][] = [];
  let bed: Bed | undefined;
  try {
    for (let r = 0; r < repeats; r++) {
      context.progress(r, repeats, `decode under a budget, round ${r + 1}`);
      const round = await context.measured(`decode under a budget, round ${r + 1}`, async () => {
        bed ??= await Bed.open(context, served);
        return bed.round(r + 1, context.quick ? BLOCK : 96);
      });
      rounds.push(round);
    }
  } finally {
    await bed?.close();
  }
  const lanes = rounds[0].map((lane, i) => ({
    ...lane,
    times: rounds.flatMap((round) => round[i].times),
    averages: meanOver(rounds.map((round) => round[i].averages)),
  }));
  return { lanes, skipped };
}

function specsOf({ quick }: BenchContext): readonly LaneSpec[] {
  return quick ? LANES.filter(({ name }) => QUICK.includes(name)) : LANES;
}

/** The lanes, warm. */
class Bed {
  private readonly lanes: Lane[] = [];
  private readonly prompts: readonly ArrayLike<number>[];
  private readonly cache: SegmentCache;
  private readonly random = randomSource(5);

  static async open(context: BenchContext, served: Served): Promise<Bed> {
    const { device } = context.gpu;
    const { model, converted, url } = served;
    const tokenizer = await openTokenizer(model);
    const cache = await SegmentCache.open(cacheFolderFiles(served.scratch('blocks')));
    const bed = new Bed(
      PROMPTS.map((prompt) => tokenizer.encode(prompt)),
      cache,
    );
    try {
      const folders: Partial<Record<Home, Checkpoint>> = {
        memory: await openCheckpoint(model),
        file: await openCheckpoint(converted),
      };
      if (url !== null) folders.http = await openCheckpoint(served.folder());
      const http = { gapBytes: HTTP_GAP_BYTES };
      for (const spec of specsOf(context)) {
        const { home = 'memory', load } = spec;
        const from = folders[home === 'http.cached' ? 'http' : home];
        if (!from) continue;
        const stored = home === 'http' ? http : home === 'http.cached' ? { ...http, cache } : undefined;
        if (home === 'http.cached')
          for (const name of from.bundle?.pools.keys() ?? []) await from.bundle?.pool(name, stored).toHost();
        const weights = await loadWeights(device, from, { ...load, stored, storage: context.storage });
        bed.lanes.push(new Lane(spec, weights, device));
      }
      // Compiles and warms.
      await bed.round(0, BLOCK);
      return bed;
    } catch (error) {
      await bed.close();
      throw error;
    }
  }

  private constructor(prompts: readonly ArrayLike<number>[], cache: SegmentCache) {
    this.prompts = prompts;
    this.cache = cache;
  }

  /** Every lane goes on from the r-th prompt. @throws Error when they make different tokens. */
  async round(r: number, tokens: number): Promise<KeptLane[]> {
    const { lanes, prompts, random } = this;
    for (const lane of lanes) await lane.start(prompts[r % prompts.length]);
    for (let t = 0; t < tokens; t += BLOCK) {
      for (const lane of shuffle([...lanes], random)) await lane.decode(BLOCK);
      for (const { name, made } of lanes)
        if (made.join() !== lanes[0].made.join())
          throw new Error(`${name}: tokens from ${t} on differ from ${lanes[0].name}`);
    }
    return lanes.map((lane) => lane.take());
  }

  async close(): Promise<void> {
    for (const { session, weights } of this.lanes) {
      session.destroy();
      weights.destroy();
    }
    await this.cache.close();
  }
}
