// Weights stored as int4, taken a word at a time: eight of them, two quads. Less code than a whole vector, which counts
// where a load is many instructions (software adapters) or where a tile is wide. Layout as in dtype_q4.
alias Unit = u32;
fn unit_at(part: u32, w: u32) -> u32 { return part * 4u + w; }
fn unit_quads(word: Unit, part: u32, w: u32) -> Quads {
  let scales = unpack2x16float(stored((part + params.value_vectors) * 4u + w / 8u));
  let s = select(scales.x, scales.y, (w & 4u) == 4u);
  return Quads(
    s * vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(28u, 24u, 20u, 16u)) >> vec4<u32>(28u)),
    s * vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(12u, 8u, 4u, 0u)) >> vec4<u32>(28u)),
  );
}
fn part_scale(part: u32) -> f32 { return 1.0; }
