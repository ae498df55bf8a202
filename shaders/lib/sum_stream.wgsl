// The residual stream put together again, and times the next norm's weight for what reads it next (norm_rms).
@group(0) @binding(9) var<storage, read_write> scaled: array<f32>;
@group(0) @binding(10) var<storage, read> next_norm: array<f32>;
fn put_sum(at: u32, column: u32, value: f32) {
  out[at] = value;
  scaled[at] = value * next_norm[column];
}
