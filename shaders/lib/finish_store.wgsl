// One split is the whole sum: it goes straight to the output, without sum_partials.
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
fn finish(split: u32, b: u32, c: u32, sum: vec4<f32>) {
  for (var k = 0u; k < 4u; k++) {
    let column = c * 4u + k;
    if (column < params.columns) { out[b * params.out_stride + column] = sum[k] + bias[column]; }
  }
}
