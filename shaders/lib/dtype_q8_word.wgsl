// Weights stored as int8, taken a word at a time: four of them, one quad. Less code than a whole vector, which counts
// where a load is many instructions (software adapters) or where a tile is wide. Layout as in dtype_q8.
@group(0) @binding(2) var<storage, read> weights: array<u32>;
fn weight_quads(part: u32, w: u32) -> Quads {
  let word = weights[part * 4u + w];
  return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}
fn part_scale(part: u32) -> f32 { return bitcast<f32>(weights[(part + params.value_vectors) * 4u]); }
