// Weights stored as f16: a vector of 16 bytes holds eight, two in a u32; widening them needs no shader-f16.
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
fn weight_quads(part: u32, v: u32) -> Quads {
  let w = weights[part + v];
  return Quads(
    vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y)),
    vec4<f32>(unpack2x16float(w.z), unpack2x16float(w.w)),
  );
}
fn part_scale(part: u32) -> f32 { return 1.0; }
