// Weights stored as f32: a vector of 16 bytes holds four.
alias Unit = vec4<u32>;
fn unit_at(part: u32, v: u32) -> u32 { return part + v; }
fn unit_quads(unit: Unit, part: u32, v: u32) -> Quads { return bitcast<vec4<f32>>(unit); }
fn part_scale(part: u32) -> f32 { return 1.0; }
