// Queries come turned, and their keys and values are in the cache already: `rope` has run.
@group(0) @binding(2) var<storage, read> q: array<f32>;
@group(0) @binding(3) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> values: array<vec4<f32>>;
fn query_at(b: u32, head: u32, d: u32) -> f32 { return q[b * params.q_stride + head * params.head_dim + d]; }
fn cached_length(b: u32) -> u32 { return step.position + b + 1u; }
fn fresh_begin(head: u32, local: u32) {}
fn fresh_score() -> f32 { return -3.0e38; }
fn fresh_weight() -> f32 { return 0.0; }
fn fresh_value_at(d: u32) -> vec4<f32> { return vec4<f32>(0.0); }
