// One token whose q, k and v come as the projections left them: rope, the write to the cache and attention in one
// dispatch. Each head turns its own query and its group's key; the first of a group writes key and value to the cache,
// where no head of this dispatch reads them. q: [q heads | k heads | v heads].
@group(0) @binding(2) var<storage, read> q: array<f32>;
@group(0) @binding(3) var<storage, read_write> keys: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> values: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> turns: array<vec2<f32>>; // [position, half a head] of (cos, sin)
var<workgroup> fresh_key: array<vec4<f32>, QUADS>;
var<workgroup> fresh_value: array<vec4<f32>, QUADS>;
fn query_at(b: u32, head: u32, d: u32) -> f32 {
  let half = params.head_dim / 2u;
  let start = head * params.head_dim;
  let turn = turns[step.position * half + d % half];
  if (d < half) { return q[start + d] * turn.x - q[start + d + half] * turn.y; }
  return q[start + d] * turn.x + q[start + d - half] * turn.y;
}
fn fresh_begin(head: u32, local: u32) {
  let group = params.heads / params.kv_heads;
  let kv = head / group;
  let cached = (step.position * params.kv_heads + kv) * QUADS;
  for (var c = local; c < QUADS; c += WORKGROUP) {
    var key = vec4<f32>(0.0);
    var value = vec4<f32>(0.0);
    for (var k = 0u; k < 4u; k++) {
      let d = c * 4u + k;
      if (d < params.head_dim) {
        key[k] = query_at(0u, params.heads + kv, d);
        value[k] = q[(params.heads + params.kv_heads + kv) * params.head_dim + d];
      }
    }
    fresh_key[c] = key;
    fresh_value[c] = value;
    if (head % group == 0u) {
      keys[cached + c] = key;
      values[cached + c] = value;
    }
  }
}
fn cached_length(b: u32) -> u32 { return step.position; }
fn fresh_score() -> f32 {
  var score = 0.0;
  for (var d = 0u; d < QUADS; d++) { score += dot(query[d], fresh_key[d]); }
  return score;
}
fn fresh_weight() -> f32 { return 1.0; }
fn fresh_value_at(d: u32) -> vec4<f32> { return fresh_value[min(d, QUADS - 1u)]; }
