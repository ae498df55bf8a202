// A vector of 16 bytes holds eight f16 weights, two in a u32; widening them needs no shader-f16.
const QUADS: u32 = 2u;
fn tile_add(sum: Tile, vector: vec4<u32>, at: u32) -> Tile {
  let low = tile_dot(sum, vec4<f32>(unpack2x16float(vector.x), unpack2x16float(vector.y)), at);
  return tile_dot(low, vec4<f32>(unpack2x16float(vector.z), unpack2x16float(vector.w)), at + 1u);
}
