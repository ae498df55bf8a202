import { OptionError } from '../errors.js';

/** How a session finds the rows to leave out. */
export type Mode = 'exact' | 'threshold';
export const MODES: readonly Mode[] = ['exact', 'threshold'];

/** Checks a mode and its thresholds. @throws OptionError */
export function checkMode(
  mode: string,
  thresholds: readonly number[] | undefined,
  layers: number,
): readonly number[] {
  if (!(MODES as readonly string[]).includes(mode)) {
    throw new OptionError(`mode "${mode}" is unknown; use one of ${MODES.join(', ')}.`, { mode });
  }
  if (mode === 'exact') return new Array<number>(layers).fill(0);
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
