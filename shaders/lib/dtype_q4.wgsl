// Weights stored as int4: a vector of 16 bytes holds a group of thirty-two; the groups' scales follow a part's values,
// f16, eight to a vector.
alias Unit = vec4<u32>;
fn unit_at(part: u32, v: u32) -> u32 { return part + v; }
fn widen_low(word: u32, scale: f32) -> vec4<f32> {
  return scale * vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(28u, 24u, 20u, 16u)) >> vec4<u32>(28u));
}
fn widen_high(word: u32, scale: f32) -> vec4<f32> {
  return scale * vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(12u, 8u, 4u, 0u)) >> vec4<u32>(28u));
}
fn unit_quads(w: Unit, part: u32, v: u32) -> Quads {
  let scales = unpack2x16float(stored(part + params.value_vectors + v / 8u)[(v / 2u) % 4u]);
  let s = select(scales.x, scales.y, (v & 1u) == 1u);
  return Quads(
    widen_low(w.x, s), widen_high(w.x, s), widen_low(w.y, s), widen_high(w.y, s),
    widen_low(w.z, s), widen_high(w.z, s), widen_low(w.w, s), widen_high(w.w, s),
  );
}
fn part_scale(part: u32) -> f32 { return 1.0; }
