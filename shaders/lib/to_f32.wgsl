fn slab_vector(part: u32, v: u32) -> vec4<u32> { return bitcast<vec4<u32>>(pool_quad(part, v)); }
