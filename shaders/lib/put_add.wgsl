// Adds to what is there: the residual stream.
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
fn put(b: u32, i: u32, id: u32, value: f32) { out[b * params.out_stride + i] += value; }
