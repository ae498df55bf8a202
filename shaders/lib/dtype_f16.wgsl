// Weights stored as f16: a vector of 16 bytes holds eight, two in a u32; widening them needs no shader-f16.
alias Unit = vec4<u32>;
fn unit_at(part: u32, v: u32) -> u32 { return part + v; }
fn unit_quads(w: Unit, part: u32, v: u32) -> Quads {
  return Quads(
    vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y)),
    vec4<f32>(unpack2x16float(w.z), unpack2x16float(w.w)),
  );
}
fn part_scale(part: u32) -> f32 { return 1.0; }
