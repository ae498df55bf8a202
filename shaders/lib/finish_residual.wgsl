// One split is the whole sum: it is added to the residual stream, which is also left times the next norm's weight.
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(9) var<storage, read_write> scaled: array<f32>;
@group(0) @binding(10) var<storage, read> next_norm: array<f32>;
fn finish(split: u32, b: u32, c: u32, sum: vec4<f32>) {
  for (var k = 0u; k < 4u; k++) {
    let column = c * 4u + k;
    if (column < params.columns) {
      let at = b * params.out_stride + column;
      let value = out[at] + sum[k] + bias[column];
      out[at] = value;
      scaled[at] = value * next_norm[column];
    }
  }
}
