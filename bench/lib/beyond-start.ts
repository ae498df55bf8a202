import { openCheckpoint } from '../../src/llama/checkpoint.js';
import { LlamaSession } from '../../src/llama/session.js';
import { Sampler } from '../../src/llama/sample.js';
import { loadWeights, type PoolHome } from '../../src/llama/weights.js';
import { HTTP_GAP_BYTES } from '../../src/node/model.js';
import { openTokenizer } from '../../src/node/text.js';
import { ratioOf, statsOf } from '../../src/tune/stats.js';
import type { BenchContext, Result, SuiteOutcome } from './report.js';
import { type Served, withServed } from './served-model.js';

const PROMPT = 'The state of the Union is';
/** What nginx's answers are slowed down to, all connections together. */
const LINK = { bytesPerSecond: 10e6, latencyMs: 20 };
const QUICK_LINK: typeof LINK = { bytesPerSecond: 50e6, latencyMs: 20 };

interface Start {
  ms: number;
  bytes: number;
  token: number;
}

/**
 * From nothing to the first token, the model on a server: with rows that are read when they are needed, against all of
 * them first. Kernels are compiled before.
 */
export async function startPart(context: BenchContext): Promise<SuiteOutcome> {
  const link = context.quick ? QUICK_LINK : LINK;
  const kept = await context.measured('first token over HTTP', () =>
    withServed(async (served) => {
      if (served.missing !== null) return { missing: served.missing, onDemand: [], whole: [] };
      const onDemand: Start[] = [];
      const whole: Start[] = [];
      const rounds = context.quick ? 1 : 7;
      // A quick run has compiled all kernels under its budget.
      for (let r = context.quick ? 0 : -1; r < rounds; r++) {
        context.progress(r + 1, rounds + 1, 'first token over HTTP');
        const pair = [await start(context, served, link, 'file'), await start(context, served, link, 'host')];
        if (pair[0].token !== pair[1].token) throw new Error('the first tokens differ');
        if (r < 0) continue;
        onDemand.push(pair[0]);
        whole.push(pair[1]);
      }
      return { missing: null, onDemand, whole };
    }),
  );
  const { missing, onDemand, whole } = kept;
  if (missing !== null)
    return { results: [], summary: {}, skipped: [{ case: 'first token over HTTP', reason: missing }] };
  const times = (starts: readonly Start[]) => starts.map(({ ms }) => ms);
  const ratio = ratioOf(times(whole), times(onDemand));
  const results: Result[] = [
    {
      suite: 'beyond',
      case: 'first token over HTTP',
      ...link,
      onDemandMs: statsOf(times(onDemand)),
      onDemandBytes: onDemand[0].bytes,
      wholeMs: statsOf(times(whole)),
      wholeBytes: whole[0].bytes,
      sooner: ratio,
    },
  ];
  const summary = {
    'beyond.http.first_token_ms': statsOf(times(onDemand)).median,
    'beyond.http.first_token_bytes': onDemand[0].bytes,
    'beyond.http.first_token_ms_of_whole': statsOf(times(whole)).median,
    'beyond.http.first_token_bytes_of_whole': whole[0].bytes,
    'beyond.http.first_token_sooner': ratio.median,
  };
  context.log(
    `first token over HTTP at ${link.bytesPerSecond / 1e6} MB/s and ${link.latencyMs} ms: ` +
      `${statsOf(times(onDemand)).median.toFixed(0)} ms and ${(onDemand[0].bytes / 1e6).toFixed(1)} MB, ` +
      `all rows first ${statsOf(times(whole)).median.toFixed(0)} ms and ${(whole[0].bytes / 1e6).toFixed(1)} MB`,
  );
  return { results, summary };
}

async function start(
  context: BenchContext,
  served: Served,
  speed: typeof LINK,
  pool: PoolHome,
): Promise<Start> {
  const { device } = context.gpu;
  const link = new Link(speed);
  const began = performance.now();
  const folder = served.folder({ transport: undefined, fetch: link.fetch });
  const [checkpoint, tokenizer] = [await openCheckpoint(folder), await openTokenizer(folder)];
  const budget = { share: 0.25 };
  const weights = await loadWeights(device, checkpoint, {
    budget,
    pool,
    storage: context.storage,
    stored: { gapBytes: HTTP_GAP_BYTES },
  });
  const session = new LlamaSession(device, weights);
  const token = new Sampler().pick(await session.prefill(tokenizer.encode(PROMPT)));
  const ms = performance.now() - began;
  session.destroy();
  weights.destroy();
  return { ms, bytes: link.bytes, token };
}

/** A connection to the server that is as slow as is said, and counts. */
class Link {
  bytes = 0;
  private busyUntil = 0;
  private readonly speed: typeof LINK;

  constructor(speed: typeof LINK) {
    this.speed = speed;
  }

  readonly fetch: typeof fetch = async (...request) => {
    const asked = performance.now();
    const response = await fetch(...request);
    const body = await response.arrayBuffer();
    this.bytes += body.byteLength;
    const begin = Math.max(asked + this.speed.latencyMs, this.busyUntil);
    this.busyUntil = begin + (1000 * body.byteLength) / this.speed.bytesPerSecond;
    await new Promise((resolve) => setTimeout(resolve, this.busyUntil - performance.now()));
    const { status, statusText, headers } = response;
    return new Response(body, { status, statusText, headers });
  };
}
