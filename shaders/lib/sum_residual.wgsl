@group(0) @binding(9) var<storage, read_write> scaled: array<f32>;
@group(0) @binding(10) var<storage, read> next_norm: array<f32>;
fn put_sum(at: u32, column: u32, value: f32) {
  let sum = out[at] + value;
  out[at] = sum;
  scaled[at] = sum * next_norm[column];
}
