// x of kernels that have it in the workgroup's memory anyway.
fn x_vector(at: u32) -> vec4<f32> { return x[at]; }
