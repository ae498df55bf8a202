fn activate(v: f32) -> f32 {
  // tanh overflows in some drivers for large arguments; beyond ±10 it is ±1 in f32.
  let t = clamp(0.7978845608 * (v + 0.044715 * v * v * v), -10.0, 10.0);
  return 0.5 * v * (1.0 + tanh(t));
}
