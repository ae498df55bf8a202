// Weights stored as f16 and used as f16: a vector of 16 bytes holds eight. Needs shader-f16.
enable f16;
alias Unit = vec4<u32>;
fn unit_at(part: u32, v: u32) -> u32 { return part + v; }
fn unit_quads(w: Unit, part: u32, v: u32) -> Quads {
  return Quads(bitcast<vec4<f16>>(w.xy), bitcast<vec4<f16>>(w.zw));
}
fn part_scale(part: u32) -> f32 { return 1.0; }
