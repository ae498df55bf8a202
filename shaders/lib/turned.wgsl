// The token's own query, key and value: heads turned, and what the cache is to have of them.
var<workgroup> fresh_key: array<vec4<f32>, HEAD_QUADS>;
var<workgroup> fresh_value: array<vec4<f32>, HEAD_QUADS>;
fn turned_at(head: u32, d: u32) -> f32 {
  let half = params.head_dim / 2u;
  let turn = turns[step.position * half + d % half];
  let other = projected_at(head, select(d - half, d + half, d < half));
  return select(0.0, projected_at(head, d) * turn.x + select(other, -other, d < half) * turn.y, d < params.head_dim);
}
fn fresh_value_at(kv: u32, d: u32) -> f32 {
  return select(0.0, projected_at(params.heads + params.kv_heads + kv, d), d < params.head_dim);
}
fn query_quad(b: u32, head: u32, d: u32) -> vec4<f32> {
  return vec4<f32>(turned_at(head, d), turned_at(head, d + 1u), turned_at(head, d + 2u), turned_at(head, d + 3u));
}
fn fresh_begin(kv: u32, quads: u32, local: u32, keeps: bool) {
  let cached = (step.position * params.kv_heads + kv) * HEAD_QUADS;
  for (var c = local; c < quads; c += WORKGROUP) {
    let d = 4u * c;
    let key = query_quad(0u, params.heads + kv, d);
    let value = vec4<f32>(
      fresh_value_at(kv, d), fresh_value_at(kv, d + 1u), fresh_value_at(kv, d + 2u), fresh_value_at(kv, d + 3u),
    );
    fresh_key[c] = key;
    fresh_value[c] = value;
    if (keeps) {
      keys[cached + c] = key;
      values[cached + c] = value;
    }
  }
}
fn cached_length(b: u32) -> u32 { return step.position; }
fn fresh_score(h: u32) -> f32 {
  var score = 0.0;
  for (var d = 0u; d < (params.head_dim + 3u) / 4u; d++) { score += dot(query[h * HEAD_QUADS + d], fresh_key[d]); }
  return score;
}
fn fresh_weight() -> f32 { return 1.0; }
fn fresh_quad(d: u32) -> vec4<f32> { return fresh_value[d]; }
