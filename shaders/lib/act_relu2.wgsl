fn activate(v: f32) -> f32 {
  let r = max(v, 0.0);
  return r * r;
}
