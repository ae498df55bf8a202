// The q-th quad of a part's values: `part` is the part's first vector. Here two a vector, upper halves of f32.
const QUADS: u32 = 2u;
fn pool_quad(part: u32, q: u32) -> vec4<f32> {
  let vector = pool0_at(part + q / 2u);
  let pairs = select(vector.xy, vector.zw, (q & 1u) == 1u);
  return bitcast<vec4<f32>>(vec4<u32>(pairs.x << 16u, pairs.x & 0xffff0000u, pairs.y << 16u, pairs.y & 0xffff0000u));
}
