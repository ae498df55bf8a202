import { OptionError } from '../errors.js';
import { BufferGroup } from '../gpu/buffers.js';
import type { Bitmask } from '../mask/index.js';
import { DevicePredictor } from '../mlp/predicted-op.js';
import { checkPredictor } from '../mlp/predictor.js';
import type { Strategy } from '../mlp/strategy.js';
import { canPredict, type ThresholdLayerParts } from '../mlp/threshold-layer.js';
import { DevicePool } from '../pool/device-pool.js';
import { RowSelector } from '../slab/row-selector.js';
import { HostSelection, type RankedSelection } from './host-selection.js';
import { checkModeOptions, type Mode } from './mode.js';
import type { ModelPredictor } from './predictor.js';
import type { LlamaWeights } from './weights.js';

/** What modes other than `exact` and `threshold` go by. */
export interface RowChoiceOptions {
  mode?: Mode;
  strategy?: Strategy;
  /** For mode `predict`. */
  predictor?: ModelPredictor;
  /** For mode `sigma`: rows with |act(gate)| above the layer's mean + sigma · its standard deviation. Default 1. */
  sigma?: number;
  /** For mode `topk`: how many rows, those with the highest |act(gate)|; below 1 as a share of a layer's rows. */
  topRows?: number;
  /** Mode `topk`: the share of its rows that stay from token to token, 0 to 1. See `sticky`. */
  sticky?: number;
  /** Modes `sigma` and `topk`: how much of |act(gate)| is what it was, at least 0 and below 1. See `Smoother`. */
  smooth?: number;
}

/** What chooses a layer's rows on the device. */
export type RowChooser = Pick<ThresholdLayerParts, 'predictor' | 'selector'>;

/** How the rows of a token's layers are chosen, where not by a threshold on the gate. Prompts are computed exactly. */
export interface RowChoice {
  readonly strategy: Strategy;
  /** Empty where the host chooses. */
  readonly layers: readonly RowChooser[];
  /** GPU bytes held. */
  readonly bytes: number;
  /** Where the host chooses: a layer's rows, by act(gate) of all of them. */
  pick?(layer: number, gates: Float32Array): Bitmask;
  /** Forgets what was chosen before. */
  reset(): void;
  /** Makes what is on a device anew on another one; what the host remembers stays. */
  rebuild(device: GPUDevice): void;
  destroy(): void;
}

/**
 * What the options choose rows by; undefined for modes exact and threshold.
 * @throws OptionError for options that the mode does not have or that are out of range, a strategy that cannot reach the
 * rows, a predictor that is missing or of another model, or weights whose rows cannot be chosen so.
 */
export function rowChoice(
  device: GPUDevice,
  weights: LlamaWeights,
  options: RowChoiceOptions,
): RowChoice | undefined {
  const { mode = 'exact' } = options;
  checkModeOptions(mode, options);
  if (mode !== 'predict' && mode !== 'sigma' && mode !== 'topk') return undefined;
  if (weights.slots) {
    throw new OptionError(
      `mode ${mode} needs all rows on the device; load the weights without a budget, or use mode exact.`,
      { mode },
    );
  }
  if (mode === 'predict') return predicted(device, weights, options);
  return selected(device, weights, options, mode);
}

function predicted(device: GPUDevice, weights: LlamaWeights, options: RowChoiceOptions): RowChoice {
  const { predictor, strategy = 'auto' } = options;
  const { hiddenSize, intermediateSize } = weights.config;
  if (strategy !== 'auto' && strategy !== 'indexed') {
    throw new OptionError(
      `mode predict reads the rows that were predicted where they lie; use strategy indexed or auto, not ${strategy}.`,
      { strategy },
    );
  }
  if (!predictor) {
    throw new OptionError(
      'mode predict needs a predictor: run `pairslab calibrate --predictor signs` on the model first.',
    );
  }
  if (predictor.layers.length !== weights.layers.length) {
    throw new OptionError(
      `the predictor has ${predictor.layers.length} layers, the model ${weights.layers.length}.`,
      { predictor: predictor.layers.length, model: weights.layers.length },
    );
  }
  for (const [l, { gate, mlp }] of weights.layers.entries()) {
    checkPredictor(predictor.layers[l], intermediateSize, hiddenSize);
    if (!(mlp instanceof DevicePool) || !canPredict(gate, mlp)) {
      throw new OptionError(
        'mode predict needs a gate and an up matrix in one buffer each and without biases; use mode exact.',
        { layer: l },
      );
    }
  }
  const make = (on: GPUDevice) => {
    const memory = new BufferGroup(on);
    const made = predictor.layers.map((one, l) => new DevicePredictor(memory, one, hiddenSize, `layer ${l}`));
    return {
      layers: made.map((layer) => ({ predictor: layer })),
      bytes: memory.bytes + made.reduce((sum, { bytes }) => sum + bytes, 0),
      destroy() {
        for (const layer of made) layer.destroy();
        memory.destroy();
      },
    };
  };
  return { strategy: 'indexed', ...onDevice(device, make) };
}

interface OnDevice {
  readonly layers: readonly RowChooser[];
  readonly bytes: number;
  destroy(): void;
}

/** What chooses on the device, and is made anew on another. */
function onDevice(
  device: GPUDevice,
  make: (device: GPUDevice) => OnDevice,
): Omit<RowChoice, 'strategy' | 'pick'> {
  let made = make(device);
  return {
    get layers() {
      return made.layers;
    },
    get bytes() {
      return made.bytes;
    },
    reset() {},
    rebuild(other) {
      made.destroy();
      made = make(other);
    },
    destroy: () => made.destroy(),
  };
}

function selected(
  device: GPUDevice,
  weights: LlamaWeights,
  { strategy = 'auto', sigma = 1, topRows, sticky, smooth }: RowChoiceOptions,
  mode: 'sigma' | 'topk',
): RowChoice {
  const { intermediateSize: rows } = weights.config;
  const remembers = sticky !== undefined || smooth !== undefined;
  if (strategy === 'dense' || (strategy === 'indexed' && remembers)) {
    throw new OptionError(
      strategy === 'dense'
        ? `mode ${mode} leaves rows out, and strategy dense computes all; use indexed, repack or paired.`
        : 'sticky and smooth choose rows on the CPU; use strategy paired or repack.',
      { strategy, mode },
    );
  }
  const selection: RankedSelection =
    mode === 'sigma' ? { by: 'sigma', k: sigma } : { by: 'top', k: countOf(topRows, rows) };
  if (remembers || strategy === 'repack' || strategy === 'paired') {
    const host = new HostSelection(selection, { layers: weights.layers.length, rows, sticky, smooth });
    return {
      strategy: strategy === 'auto' ? 'paired' : strategy,
      layers: [],
      bytes: 0,
      pick: (layer, gates) => host.pick(layer, gates),
      reset: () => host.reset(),
      rebuild() {},
      destroy() {},
    };
  }
  const make = (on: GPUDevice) => {
    const selectors = weights.layers.map(() => new RowSelector(on, rows, selection, { absolute: true }));
    return {
      layers: selectors.map((selector) => ({ selector })),
      bytes: selectors.reduce((sum, { bytes }) => sum + bytes, 0),
      destroy() {
        for (const selector of selectors) selector.destroy();
      },
    };
  };
  return { strategy: 'indexed', ...onDevice(device, make) };
}

/** @throws OptionError for a count that a layer of `rows` rows cannot have. */
function countOf(topRows: number | undefined, rows: number): number {
  const count = topRows !== undefined && topRows < 1 ? Math.ceil(topRows * rows) : topRows;
  if (count !== undefined && Number.isInteger(count) && count >= 1 && count <= rows) return count;
  throw new OptionError(
    `mode topk needs a count of rows from 1 to ${rows}, or a share above 0 and below 1; it is ${topRows}.`,
    { topRows, rows },
  );
}
