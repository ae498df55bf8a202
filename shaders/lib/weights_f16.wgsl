// Weights stored as f16, two in a u32: one vec4<u32> holds two quads. Needs no shader-f16.
const QUADS: u32 = 2u;
fn quad(vector: vec4<u32>, q: u32) -> vec4<f32> {
  let pair = select(vector.zw, vector.xy, q == 0u);
  return vec4<f32>(unpack2x16float(pair.x), unpack2x16float(pair.y));
}
