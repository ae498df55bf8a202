// Weights stored as f16, as in dtype_f16, widened by shifts: sign, exponent and digits move to where f32 has them, which
// leaves every value 2^-112 of itself, exactly, where an adapter does not flush small f32 to zero. Half of it is made good
// in x (or what stands for it), half in the finished sums, so that neither products nor sums leave f32's range.
// For lavapipe, where unpack2x16float is many instructions: a load and a dot product take 0.8 ms with shifts, 1.15 without.
alias Unit = vec4<u32>;
fn unit_at(part: u32, v: u32) -> u32 { return part + v; }
fn shifted(w: u32) -> vec2<f32> {
  return bitcast<vec2<f32>>((bitcast<vec2<i32>>(vec2<u32>(w << 16u, w)) >> vec2<u32>(3u)) & vec2<i32>(bitcast<i32>(0x8fffe000u)));
}
fn unit_quads(w: Unit, part: u32, v: u32) -> Quads {
  return Quads(vec4<f32>(shifted(w.x), shifted(w.y)), vec4<f32>(shifted(w.z), shifted(w.w)));
}
// 2^56.
fn part_scale(part: u32) -> f32 { return bitcast<f32>(0x5b800000u); }
