// The q-th quad of a part's values: `part` is the part's first vector. Here one a vector.
const QUADS: u32 = 1u;
fn pool_quad(part: u32, q: u32) -> vec4<f32> { return bitcast<vec4<f32>>(pool0_at(part + q)); }
