// The residual stream as it comes, the sum of so many parts, and as it goes. x = that times the norm's weight, in the
// workgroup's memory.
struct Stream {
  parts: u32,
  stride: u32, // of a part, in vec4<f32>
  columns: f32,
  eps: f32,
}
@group(0) @binding(13) var<uniform> stream: Stream;
@group(0) @binding(14) var<storage, read> stream_in: array<vec4<f32>>;
@group(0) @binding(15) var<storage, read> norm_weight: array<vec4<f32>>;
@group(0) @binding(16) var<storage, read_write> stream_out: array<vec4<f32>>; // a part a workgroup
var<workgroup> x: array<vec4<f32>, X_QUADS>;
fn stream_at(v: u32) -> vec4<f32> {
  var sum = stream_in[v];
  for (var p = 1u; p < stream.parts; p++) { sum += stream_in[p * stream.stride + v]; }
  return sum;
}
// What every sum over x is to be multiplied by. A barrier follows before x is read.
fn stream_begin(at: Lane) -> f32 {
  var squares = 0.0;
  for (var v = team_lane(at); v < stream.stride; v += team_size(at)) {
    let quad = stream_at(v);
    squares += dot(quad, quad);
    x[v] = quad * norm_weight[v];
  }
  return inverseSqrt(team_sum(at, squares) / stream.columns + stream.eps);
}
