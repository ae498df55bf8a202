// Weights stored as bf16: a vector of 16 bytes holds eight, two in a u32; each is the upper half of an f32.
alias Unit = vec4<u32>;
fn unit_at(part: u32, v: u32) -> u32 { return part + v; }
fn widen(pairs: vec2<u32>) -> vec4<f32> {
  return bitcast<vec4<f32>>(vec4<u32>(pairs.x << 16u, pairs.x & 0xffff0000u, pairs.y << 16u, pairs.y & 0xffff0000u));
}
fn unit_quads(w: Unit, part: u32, v: u32) -> Quads {
  return Quads(widen(w.xy), widen(w.zw));
}
fn part_scale(part: u32) -> f32 { return 1.0; }
