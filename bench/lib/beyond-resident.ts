import { openCheckpoint } from '../../src/llama/checkpoint.js';
import { Sampler } from '../../src/llama/sample.js';
import { LlamaSession, type SessionOptions, type StepStats } from '../../src/llama/session.js';
import { type LlamaWeights, loadWeights } from '../../src/llama/weights.js';
import { SHIPPED_MODEL } from '../../src/node/commands/start.js';
import { DiskFolder } from '../../src/node/model-folder.js';
import { openTokenizer } from '../../src/node/text.js';
import { randomSource, ratioOf, shuffle, statsOf } from '../../src/tune/stats.js';
import type { BenchContext, SuiteOutcome } from './report.js';

/** Tokens that a lane makes in a turn: one submit, where the device plans. */
const BLOCK = 16;
const PROMPT = 'The state of the Union is';

/** How sampled lanes draw; the one on the host from each token's logits, as before there was a kernel for it. */
const DRAW = { temperature: 0.8, topK: 40, topP: 0.95 };

interface LaneSpec {
  session: SessionOptions;
  picks: 'likeliest' | 'sampled' | 'sampled on host';
}

/** What is held against what. Dense is there for its tokens, which all must make; indexed to tell what the copy costs. */
const LANES = {
  device: { session: { strategy: 'paired', planOn: 'device' }, picks: 'likeliest' },
  host: { session: { strategy: 'paired', planOn: 'host' }, picks: 'likeliest' },
  indexed: { session: { strategy: 'indexed' }, picks: 'likeliest' },
  dense: { session: { strategy: 'dense' }, picks: 'likeliest' },
  sampled: { session: { strategy: 'paired' }, picks: 'sampled' },
  sampledOnHost: { session: { strategy: 'paired' }, picks: 'sampled on host' },
} as const satisfies Record<string, LaneSpec>;
type Name = keyof typeof LANES;
const NAMES = Object.keys(LANES) as Name[];
/** Whose tokens a lane must make. */
const modelOf = (name: Name): Name => (LANES[name].picks === 'likeliest' ? 'dense' : 'sampled');
/** What a lane's speed is told over: the same with its work on the host. */
const hostOf = (name: Name): Name => (LANES[name].picks === 'likeliest' ? 'host' : 'sampledOnHost');

/** What is kept of a lane: ms a token, turn by turn, and averages of its steps. */
interface KeptLane {
  times: number[];
  submits: number;
  readbacks: number;
  redone: number;
  writes: number;
}

class Lane {
  readonly times: number[] = [];
  readonly steps: StepStats[] = [];
  made: number[] = [];
  private readonly session: LlamaSession;
  private readonly picks: LaneSpec['picks'];
  private sampler = new Sampler();
  private next = 0;

  constructor(device: GPUDevice, weights: LlamaWeights, { session, picks }: LaneSpec) {
    this.session = new LlamaSession(device, weights, session);
    this.picks = picks;
  }

  async start(promptIds: ArrayLike<number>, seed: number): Promise<void> {
    this.session.reset();
    if (this.picks !== 'likeliest') this.sampler = new Sampler({ ...DRAW, seed });
    this.next = this.sampler.pick(await this.session.prefill(promptIds));
  }

  async decode(timed: boolean): Promise<void> {
    const started = performance.now();
    const { tokens, steps } = await (this.picks === 'sampled on host'
      ? this.singly()
      : this.session.follow(this.next, BLOCK, this.sampler));
    const ms = (performance.now() - started) / BLOCK;
    this.next = tokens[BLOCK - 1];
    this.made = tokens;
    if (!timed) return;
    this.times.push(ms);
    this.steps.push(...steps);
  }

  private async singly(): Promise<{ tokens: number[]; steps: StepStats[] }> {
    const tokens: number[] = [];
    const steps: StepStats[] = [];
    while (tokens.length < BLOCK) {
      tokens.push(this.sampler.pick(await this.session.next(tokens.at(-1) ?? this.next)));
      steps.push(this.session.lastStep);
    }
    return { tokens, steps };
  }

  kept(): KeptLane {
    const { times, steps } = this;
    const mean = (of: (step: StepStats) => number) =>
      steps.reduce((total, step) => total + of(step), 0) / steps.length;
    return {
      times,
      submits: mean(({ submits }) => submits),
      readbacks: mean(({ readbacks }) => readbacks),
      redone: mean(({ redone }) => (redone ? 1 : 0)),
      writes: mean(({ updates }) => updates.reduce((total, { writes }) => total + writes, 0)),
    };
  }

  destroy(): void {
    this.session.destroy();
  }
}

/**
 * Decode of the shipped model (f32, exact mode) with its slabs planned on the device, against the same planned on the
 * host: masks read back layer by layer, diff and plan on the CPU. Lanes take turns of 16 tokens in shuffled order;
 * figures are medians of the ratios turn by turn. Sampled decode with its tokens drawn on the device, against the same drawn
 * on the host from logits read back token by token. Equal tokens are required.
 */
export async function residentPart(context: BenchContext): Promise<SuiteOutcome> {
  const kept = await context.measured('decode, planned on the device', () => measure(context));
  const speedup = ratioOf(kept.host.times, kept.device.times);
  const sampled = ratioOf(kept.sampledOnHost.times, kept.sampled.times);
  context.log(
    NAMES.map((name) => `${name} ${statsOf(kept[name].times).median.toFixed(3)}`).join(', ') +
      ` ms a token; ${speedup.median.toFixed(2)}× of the host's plans; sampled ${sampled.median.toFixed(2)}× of sampling on the host`,
  );
  return {
    results: NAMES.map((name) => ({
      suite: 'beyond',
      case: `decode, planned on the device: ${name}`,
      ...LANES[name].session,
      picks: LANES[name].picks,
      mode: 'exact',
      dtype: 'f32',
      tokensEqual: true,
      msPerToken: statsOf(kept[name].times),
      speedupOverHost: ratioOf(kept[hostOf(name)].times, kept[name].times),
      submitsPerToken: kept[name].submits,
      readbacksPerToken: kept[name].readbacks,
      redonePerToken: kept[name].redone,
      writesPerToken: kept[name].writes,
    })),
    summary: {
      'gpu_resident.readbacks_per_token': kept.device.readbacks,
      'gpu_resident.submits_per_token': kept.device.submits,
      'gpu_resident.speedup_vs_cpu_diff': speedup.median,
      'gpu_resident.speedup_vs_dense': ratioOf(kept.dense.times, kept.device.times).median,
      'gpu_resident.sampled.readbacks_per_token': kept.sampled.readbacks,
      'gpu_resident.sampled.submits_per_token': kept.sampled.submits,
      'gpu_resident.sampled.speedup_vs_cpu': sampled.median,
      'gpu_resident.sampled.speed_over_greedy': ratioOf(kept.device.times, kept.sampled.times).median,
      'gpu_resident.sampled.tokens_per_second': 1000 / statsOf(kept.sampled.times).median,
    },
  };
}

async function measure(context: BenchContext): Promise<Record<Name, KeptLane>> {
  const { device } = context.gpu;
  const blocks = context.quick ? 1 : 8;
  const repeats = context.full ? 9 : context.quick ? 2 : 5;
  const random = randomSource(5);
  const lanes = new Map<Name, Lane>();
  const folder = await DiskFolder.at(SHIPPED_MODEL);
  let weights: LlamaWeights | undefined;
  try {
    weights = await loadWeights(device, await openCheckpoint(folder), { storage: context.storage });
    for (const name of NAMES) lanes.set(name, new Lane(device, weights, LANES[name]));
    const promptIds = (await openTokenizer(folder)).encode(PROMPT);
    // The first round compiles and warms.
    for (let r = -1; r < repeats; r++) {
      context.progress(r + 1, repeats + 1, r < 0 ? 'warming up' : `round ${r + 1}`);
      for (const lane of lanes.values()) await lane.start(promptIds, r);
      for (let b = 0; b < (r < 0 ? 1 : blocks); b++) {
        for (const lane of shuffle([...lanes.values()], random)) await lane.decode(r >= 0);
        for (const [name, { made }] of lanes)
          if (made.join() !== lanes.get(modelOf(name))?.made.join())
            throw new Error(`${name}: tokens of turn ${b} differ from ${modelOf(name)}; nothing is reported`);
      }
    }
    return Object.fromEntries([...lanes].map(([name, lane]) => [name, lane.kept()])) as Record<
      Name,
      KeptLane
    >;
  } finally {
    for (const lane of lanes.values()) lane.destroy();
    weights?.destroy();
    await folder.close();
  }
}
