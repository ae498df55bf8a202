// Weights a quad at a time: four f16 in two u32.
@group(0) @binding(2) var<storage, read> weights: array<vec2<u32>>;
fn weight_quad(i: u32) -> vec4<f32> {
  let pairs = weights[i];
  return vec4<f32>(unpack2x16float(pairs.x), unpack2x16float(pairs.y));
}
