// The q-th quad of a part's values: `part` is the part's first vector. Here four a vector, int8 times the row's f32 scale.
const QUADS: u32 = 4u;
fn pool_quad(part: u32, q: u32) -> vec4<f32> {
  let word = pool0_at(part + q / 4u)[q % 4u];
  let values = bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u);
  return bitcast<f32>(pool0_at(part + shape.pool_values).x) * vec4<f32>(values);
}
