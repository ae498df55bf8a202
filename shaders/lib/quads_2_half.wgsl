// What one stored vector of 16 bytes of f16 is as it stands: two quads of f16. A quad's dot product is taken in f16,
// rounding at each step; the quads are added up in f32, so that the error does not grow with the length of a row.
enable f16;
const QUADS: u32 = 2u;
struct Quads {
  a: vec4<f16>,
  b: vec4<f16>,
}
fn quads_at(quads: Quads, k: u32) -> vec4<f32> {
  if (k == 0u) { return vec4<f32>(quads.a); }
  return vec4<f32>(quads.b);
}
fn quads_dot(p: Quads, q: Quads) -> f32 {
  return f32(dot(p.a, q.a)) + f32(dot(p.b, q.b));
}
