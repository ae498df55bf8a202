import { OptionError } from '../errors.js';

/**
 * How a session finds the rows to leave out: those whose |act(gate)| is zero, is at or below a threshold, was not
 * predicted, does not exceed mean + k sigma of its layer, or is not among the k highest.
 */
export type Mode = 'exact' | 'threshold' | 'predict' | 'sigma' | 'topk';
export const MODES: readonly Mode[] = ['exact', 'threshold', 'predict', 'sigma', 'topk'];
/** Those in which every layer's gate, compared with a figure, says which rows are active, in prompts too. */
export const GATE_MODES: readonly Mode[] = ['exact', 'threshold'];

/** What modes other than exact and threshold go by, each with the modes that it is for. */
const OPTION_MODES = {
  predictor: ['predict'],
  sigma: ['sigma'],
  topRows: ['topk'],
  sticky: ['topk'],
  smooth: ['sigma', 'topk'],
} as const satisfies Readonly<Record<string, readonly Mode[]>>;
export type ModeOption = keyof typeof OPTION_MODES;

/**
 * Whether options go with their mode, as far as that can be told without a model.
 * @param nameOf What the user calls an option, where not by its name.
 * @throws OptionError for one of another mode, or one that the mode cannot do without.
 */
export function checkModeOptions(
  mode: Mode,
  given: Readonly<Partial<Record<ModeOption, unknown>>>,
  nameOf: (option: ModeOption) => string = (option) => option,
): void {
  for (const option of Object.keys(OPTION_MODES) as ModeOption[]) {
    const modes: readonly Mode[] = OPTION_MODES[option];
    if (given[option] === undefined || modes.includes(mode)) continue;
    throw new OptionError(`${nameOf(option)} is for mode ${modes.join(' and ')}, not ${mode}.`, {
      option,
      mode,
    });
  }
  if (mode === 'topk' && given.topRows === undefined)
    throw new OptionError(
      `mode topk needs ${nameOf('topRows')}: how many of a layer's rows, or a share of them.`,
      {
        mode,
      },
    );
}

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
