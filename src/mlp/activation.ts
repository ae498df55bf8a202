import { OptionError } from '../errors.js';

/** Activations by name; FATReLU carries its threshold: values at or below it become zero. */
export type Activation =
  | 'silu'
  | 'gelu'
  | 'gelu_tanh'
  | 'relu'
  | 'relu2'
  | 'identity'
  | { readonly fatrelu: number };

/** An activation as the kernels take it. */
export interface ActivationChoice {
  /** The choice of the kernels' `activation` slot. */
  readonly slot: string;
  /** FATReLU's threshold, else 0. */
  readonly fat: number;
}

const SLOTS: Readonly<Record<string, string>> = {
  silu: 'silu',
  gelu: 'gelu_erf',
  gelu_tanh: 'gelu_tanh',
  relu: 'relu',
  relu2: 'relu2',
  identity: 'identity',
};

/** @throws OptionError for an activation that is not known, or a FATReLU threshold that is not finite. */
export function chooseActivation(activation: Activation): ActivationChoice {
  if (typeof activation === 'object' && activation !== null && Number.isFinite(activation.fatrelu)) {
    return { slot: 'fatrelu', fat: activation.fatrelu };
  }
  if (typeof activation === 'string' && Object.hasOwn(SLOTS, activation))
    return { slot: SLOTS[activation], fat: 0 };
  throw new OptionError(
    `activation ${JSON.stringify(activation)} is unknown; use ${Object.keys(SLOTS).join(', ')} or { fatrelu: t }.`,
    { activation },
  );
}
