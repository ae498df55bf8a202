// Queries come turned, and their keys and values are in the cache already: `rope` has run.
@group(0) @binding(2) var<storage, read> q: array<f32>;
@group(0) @binding(3) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> values: array<vec4<f32>>;
fn q_at(b: u32, head: u32, d: u32) -> f32 {
  return select(0.0, q[b * params.q_stride + head * params.head_dim + d], d < params.head_dim);
}
fn query_quad(b: u32, head: u32, d: u32) -> vec4<f32> {
  return vec4<f32>(q_at(b, head, d), q_at(b, head, d + 1u), q_at(b, head, d + 2u), q_at(b, head, d + 3u));
}
fn cached_length(b: u32) -> u32 { return step.position + b + 1u; }
fn fresh_begin(kv: u32, quads: u32, local: u32, keeps: bool) {}
fn fresh_score(h: u32) -> f32 { return -3.0e38; }
fn fresh_weight() -> f32 { return 0.0; }
fn fresh_quad(d: u32) -> vec4<f32> { return vec4<f32>(0.0); }
fn fresh_load(kv: u32, local: u32) {}
