// Weights stored as f32: a vector of 16 bytes holds four.
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
fn weight_quads(part: u32, v: u32) -> Quads { return bitcast<vec4<f32>>(weights[part + v]); }
fn part_scale(part: u32) -> f32 { return 1.0; }
