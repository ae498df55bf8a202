// Weights stored as f16 and used as f16: a vector of 16 bytes holds eight. Needs shader-f16.
enable f16;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
fn weight_quads(part: u32, v: u32) -> Quads {
  let w = weights[part + v];
  return Quads(bitcast<vec4<f16>>(w.xy), bitcast<vec4<f16>>(w.zw));
}
fn part_scale(part: u32) -> f32 { return 1.0; }
