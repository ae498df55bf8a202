// act(value), and zero where its size does not exceed the threshold (0 for exact, below 0 for all).
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
fn put(b: u32, i: u32, id: u32, value: f32) {
  let a = activate(value);
  out[b * params.out_stride + i] = select(0.0, a, abs(a) > params.threshold && rows_keep(b, id));
}
