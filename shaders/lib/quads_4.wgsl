// What one stored vector of 16 bytes widens to: four quads of f32. Written out, since software adapters keep arrays in
// memory, not in registers.
const QUADS: u32 = 4u;
struct Quads {
  a: vec4<f32>,
  b: vec4<f32>,
  c: vec4<f32>,
  d: vec4<f32>,
}
fn quads_zero() -> Quads {
  let z = vec4<f32>(0.0);
  return Quads(z, z, z, z);
}
fn quads_dot(p: Quads, q: Quads) -> f32 {
  return (dot(p.a, q.a) + dot(p.b, q.b)) + (dot(p.c, q.c) + dot(p.d, q.d));
}
fn quads_fma(sum: Quads, f: f32, w: Quads) -> Quads {
  return Quads(sum.a + f * w.a, sum.b + f * w.b, sum.c + f * w.c, sum.d + f * w.d);
}
fn quads_at(quads: Quads, k: u32) -> vec4<f32> {
  switch k {
    case 0u: { return quads.a; }
    case 1u: { return quads.b; }
    case 2u: { return quads.c; }
    default: { return quads.d; }
  }
}
