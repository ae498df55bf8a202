import { OptionError } from '../errors.js';
import { type Trace, TraceBuilder } from '../residency/trace.js';
import { Sampler } from './sample.js';
import type { LlamaSession } from './session.js';

/** A text to record: given whole, or a prompt that the model goes on with. */
export interface TraceSource {
  readonly name: string;
  readonly ids: readonly number[];
  /** Tokens to generate after `ids`, greedily. 0: every token of `ids` is fed by itself, and its masks are recorded. */
  readonly generate: number;
}

export interface RecordOptions {
  /** The model's name, for the trace. */
  readonly model: string;
  readonly mode: string;
  onProgress?: (done: number, total: number) => void;
  /** Stops after the current token; the trace has the steps until then. */
  signal?: AbortSignal;
}

/**
 * Runs a session over texts, each from an empty cache, and keeps every layer's mask at every decode step. A text that
 * is longer than the context goes on in further windows. The masks of a prompt that is generated from are not among
 * them: it is fed densely.
 *
 * @throws OptionError unless the session's strategy is repack or paired: the others bring no masks to the CPU; what
 *   `LlamaSession.prefill` and `next` throw.
 */
export async function recordTrace(
  session: LlamaSession,
  sources: readonly TraceSource[],
  options: RecordOptions,
): Promise<Trace> {
  const { strategy, weights } = session;
  if (strategy !== 'repack' && strategy !== 'paired') {
    throw new OptionError(`a session by ${strategy} has no masks to record; use paired or repack.`, {
      strategy,
    });
  }
  if (strategy === 'paired' && session.planOn === 'device') {
    throw new OptionError("the session's masks stay on the device; make it with planOn 'host'.", {
      strategy,
    });
  }
  const { layers, eosTokenIds } = weights.config;
  const sampler = new Sampler();
  const { rows, rowBytes } = weights.layers[0].mlp;
  const { model, mode, signal } = options;
  const builder = new TraceBuilder({ model, mode, dtype: weights.dtype, rowBytes, rows, layers });
  const total = sources.reduce((sum, { ids, generate: n }) => sum + (n > 0 ? n - 1 : ids.length), 0);
  let done = 0;
  const step = (): void => options.onProgress?.(++done, total);
  const observer = session.onMask;
  session.onMask = (layer, mask) => builder.push(layer, mask);
  try {
    for (const { name, ids, generate: maxTokens } of sources) {
      if (signal?.aborted) break;
      builder.begin(name);
      if (maxTokens > 0) {
        session.reset();
        // Not by `generate`, whose runs may go on a little beyond the end.
        let id = sampler.pick(await session.prefill(ids));
        for (let made = 1; made < maxTokens && !eosTokenIds.includes(id); made++) {
          if (signal?.aborted || session.position === weights.context) break;
          id = sampler.pick(await session.next(id));
          step();
        }
        continue;
      }
      for (let i = 0; i < ids.length && !signal?.aborted; i++) {
        if (i % weights.context === 0) session.reset();
        await session.next(ids[i]);
        step();
      }
    }
  } finally {
    session.onMask = observer;
  }
  return builder.build();
}
