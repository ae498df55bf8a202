/** The twins' activations, by the names of the kernels' `activation` choices (act_*.wgsl). */
export type ActivationSlot = 'identity' | 'silu' | 'gelu_erf' | 'gelu_tanh' | 'relu' | 'relu2' | 'fatrelu';

/** act(v); `fat` is FATReLU's threshold. */
export function activate(slot: ActivationSlot, v: number, fat = 0): number {
  switch (slot) {
    case 'identity':
      return v;
    case 'silu':
      return v / (1 + Math.exp(-v));
    case 'gelu_erf':
      return 0.5 * v * (1 + erf(v / Math.SQRT2));
    case 'gelu_tanh':
      return 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)));
    case 'relu':
      return Math.max(v, 0);
    case 'relu2':
      return Math.max(v, 0) ** 2;
    case 'fatrelu':
      return v > fat ? v : 0;
  }
}

/** The error function to about 1e-15: its Taylor series times e^(-z²), whose terms have one sign (DLMF 7.6.2). */
export function erf(z: number): number {
  if (Math.abs(z) > 6) return Math.sign(z);
  let term = z;
  let sum = z;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
    term *= (2 * z * z) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-z * z) * sum;
}
