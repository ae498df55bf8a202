// The residual stream as kernels left it: the sum of so many parts.
@group(0) @binding(14) var<storage, read> stream_in: array<vec4<f32>>;
fn stream_at(v: u32) -> vec4<f32> {
  var sum = stream_in[v];
  for (var p = 1u; p < stream.parts; p++) { sum += stream_in[p * stream.stride + v]; }
  return sum;
}
