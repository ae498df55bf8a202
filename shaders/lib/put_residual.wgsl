// Adds to the residual stream, and leaves it times the next norm's weight for what reads it next (norm_rms).
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(9) var<storage, read_write> scaled: array<f32>;
@group(0) @binding(10) var<storage, read> next_norm: array<f32>;
fn put(b: u32, i: u32, id: u32, value: f32) {
  let sum = out[b * params.out_stride + i] + value;
  out[b * params.out_stride + i] = sum;
  scaled[b * params.out_stride + i] = sum * next_norm[i];
}
