// x as it is bound; lib/x_staged.wgsl has it near.
fn x_begin(local: u32) {}
fn x_vector(at: u32) -> vec4<f32> { return x[at]; }
