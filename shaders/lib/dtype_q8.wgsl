// Weights stored as int8: a vector of 16 bytes holds sixteen; one more vector after a part's values starts with its
// f32 scale, by which the finished sum is multiplied.
alias Unit = vec4<u32>;
fn unit_at(part: u32, v: u32) -> u32 { return part + v; }
fn widen(word: u32) -> vec4<f32> {
  return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}
fn unit_quads(w: Unit, part: u32, v: u32) -> Quads {
  return Quads(widen(w.x), widen(w.y), widen(w.z), widen(w.w));
}
fn part_scale(part: u32) -> f32 { return bitcast<f32>(stored(part + params.value_vectors).x); }
