// One token whose q, k and v come as the projections left them: rope, the write to the cache and attention in one
// dispatch. Each head turns its own query and its group's key; the first of a group writes key and value to the cache,
// where no head of this dispatch reads them. q: [q heads | k heads | v heads].
@group(0) @binding(2) var<storage, read> q: array<f32>;
@group(0) @binding(3) var<storage, read_write> keys: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> values: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> turns: array<vec2<f32>>; // [position, half a head] of (cos, sin)
fn projected_at(head: u32, d: u32) -> f32 { return q[head * params.head_dim + d]; }
fn fresh_load(kv: u32, local: u32) {}
