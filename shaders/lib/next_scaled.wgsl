// What the first norm_rms reads: the residual stream times that norm's weight.
@group(0) @binding(9) var<storage, read_write> scaled: array<vec4<f32>>;
@group(0) @binding(10) var<storage, read> next_norm: array<vec4<f32>>;
fn next(at: u32, c: u32, quad: vec4<f32>) { scaled[at] = quad * next_norm[c]; }
