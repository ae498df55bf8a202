// What one stored vector of 16 bytes widens to: two quads of f32. Written out, since software adapters keep arrays in
// memory, not in registers.
const QUADS: u32 = 2u;
struct Quads {
  a: vec4<f32>,
  b: vec4<f32>,
}
fn quads_zero() -> Quads {
  let z = vec4<f32>(0.0);
  return Quads(z, z);
}
fn quads_dot(p: Quads, q: Quads) -> f32 {
  return dot(p.a, q.a) + dot(p.b, q.b);
}
fn quads_fma(sum: Quads, f: f32, w: Quads) -> Quads {
  return Quads(sum.a + f * w.a, sum.b + f * w.b);
}
fn quads_at(quads: Quads, k: u32) -> vec4<f32> {
  switch k {
    case 0u: { return quads.a; }
    default: { return quads.b; }
  }
}
