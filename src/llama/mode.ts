import { OptionError } from '../errors.js';

/**
 * How a session finds the rows to leave out: those whose |act(gate)| is zero, is at or below a threshold, was not
 * predicted, does not exceed mean + k sigma of its layer, or is not among the k highest.
 */
export type Mode = 'exact' | 'threshold' | 'predict' | 'sigma' | 'topk';
export const MODES: readonly Mode[] = ['exact', 'threshold', 'predict', 'sigma', 'topk'];
/** Those in which every layer's gate, compared with a figure, says which rows are active, in prompts too. */
export const GATE_MODES: readonly Mode[] = ['exact', 'threshold'];

/** Checks a mode and its thresholds. @throws OptionError */
export function checkMode(
  mode: string,
  thresholds: readonly number[] | undefined,
  layers: number,
): readonly number[] {
  if (!(MODES as readonly string[]).includes(mode)) {
    throw new OptionError(`mode "${mode}" is unknown; use one of ${MODES.join(', ')}.`, { mode });
  }
  if (mode !== 'threshold') return new Array<number>(layers).fill(0);
  if (!thresholds) {
    throw new OptionError(
      'mode threshold needs a threshold per layer: run `pairslab calibrate` on the model first.',
    );
  }
  if (thresholds.length !== layers || !thresholds.every((t) => Number.isFinite(t) && t >= 0)) {
    throw new OptionError(
      `mode threshold needs ${layers} finite thresholds of 0 or more; got [${thresholds}].`,
      {
        thresholds,
        layers,
      },
    );
  }
  return thresholds;
}
