// A vector of 16 bytes holds four f32 weights.
const QUADS: u32 = 1u;
fn tile_add(sum: Tile, vector: vec4<u32>, at: u32) -> Tile { return tile_dot(sum, bitcast<vec4<f32>>(vector), at); }
