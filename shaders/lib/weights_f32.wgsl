// Weights stored as f32: one vec4<u32> holds one quad of four values.
const QUADS: u32 = 1u;
fn quad(vector: vec4<u32>, q: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(vector);
}
