// Weights stored as bf16: a vector of 16 bytes holds eight, two in a u32; each is the upper half of an f32.
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
fn widen(pairs: vec2<u32>) -> vec4<f32> {
  return bitcast<vec4<f32>>(vec4<u32>(pairs.x << 16u, pairs.x & 0xffff0000u, pairs.y << 16u, pairs.y & 0xffff0000u));
}
fn weight_quads(part: u32, v: u32) -> Quads {
  let w = weights[part + v];
  return Quads(widen(w.xy), widen(w.zw));
}
fn part_scale(part: u32) -> f32 { return 1.0; }
