// The residual stream before the first layer: the token's row of the embedding. Of a token that is none, the last one's.
@group(0) @binding(14) var<storage, read> tokens: array<u32>;
//@again token: stored_quads dtype
fn stream_at(v: u32) -> vec4<f32> {
  let part = min(tokens[0], stream.token_rows - 1u) * stream.token_stride;
  let quads = token_weight_quads(part, v / token_QUADS);
  return token_part_scale(part) * token_quads_at(quads, v % token_QUADS);
}
