// The q-th quad of a part's values: `part` is the part's first vector. Here two a vector.
const QUADS: u32 = 2u;
fn pool_quad(part: u32, q: u32) -> vec4<f32> {
  let vector = pool0_at(part + q / 2u);
  let pairs = select(vector.xy, vector.zw, (q & 1u) == 1u);
  return vec4<f32>(unpack2x16float(pairs.x), unpack2x16float(pairs.y));
}
