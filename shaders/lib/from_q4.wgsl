// The q-th quad of a part's values: `part` is the part's first vector. Here eight a vector, int4 times the group's f16
// scale.
const QUADS: u32 = 8u;
fn pool_quad(part: u32, q: u32) -> vec4<f32> {
  let group = q / 8u;
  let word = pool0_at(part + group)[(q / 2u) % 4u] >> ((q & 1u) * 16u);
  let values = bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(28u, 24u, 20u, 16u)) >> vec4<u32>(28u);
  let scales = unpack2x16float(pool0_at(part + shape.pool_values + group / 8u)[(group / 2u) % 4u]);
  return select(scales.x, scales.y, (group & 1u) == 1u) * vec4<f32>(values);
}
