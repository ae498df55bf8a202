// A split's sums wait for sum_partials.
@group(0) @binding(4) var<storage, read_write> partials: array<vec4<f32>>;
fn finish(split: u32, b: u32, c: u32, sum: vec4<f32>) {
  if (c < params.quads) { partials[(split * step.batch + b) * params.quads + c] = sum; }
}
