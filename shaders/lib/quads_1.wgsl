// What one stored vector of 16 bytes widens to: one quad of f32.
const QUADS: u32 = 1u;
alias Quads = vec4<f32>;
fn quads_zero() -> Quads { return vec4<f32>(0.0); }
fn quads_dot(p: Quads, q: Quads) -> f32 { return dot(p, q); }
fn quads_fma(sum: Quads, f: f32, w: Quads) -> Quads { return sum + f * w; }
fn quads_at(quads: Quads, k: u32) -> vec4<f32> { return quads; }
