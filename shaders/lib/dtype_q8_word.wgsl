// Weights stored as int8, taken a word at a time: four of them, one quad. Less code than a whole vector, which counts
// where a load is many instructions (software adapters) or where a tile is wide. Layout as in dtype_q8.
alias Unit = u32;
fn unit_at(part: u32, w: u32) -> u32 { return part * 4u + w; }
fn unit_quads(word: Unit, part: u32, w: u32) -> Quads {
  return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}
fn part_scale(part: u32) -> f32 { return bitcast<f32>(stored((part + params.value_vectors) * 4u)); }
