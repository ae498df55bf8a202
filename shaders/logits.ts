import { linear } from './linear.js';
import { rmsNorm } from './rms_norm.js';

export interface LogitsInput {
  /** [N, K] */
  W: ArrayLike<number>;
  /** [K] */
  residual: ArrayLike<number>;
  /** [K]: of the norm. */
  weight: ArrayLike<number>;
  eps: number;
}

/** [N]: W · the norm of the residual stream. */
export function logits({ W, residual, weight, eps }: LogitsInput): Float64Array {
  return linear({ W, x: rmsNorm(residual, weight, eps), K: weight.length });
}
