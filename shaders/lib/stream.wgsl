// What a kernel reads of the residual stream (stream_parts, stream_token): x = that times the norm's weight, in the
// workgroup's memory.
struct Stream {
  parts: u32,
  stride: u32, // of a part, in vec4<f32>
  columns: f32,
  eps: f32,
  token_rows: u32,   // of the embedding, stream_token
  token_stride: u32, // of its rows, in vectors of 16 bytes
}
@group(0) @binding(13) var<uniform> stream: Stream;
@group(0) @binding(15) var<storage, read> norm_weight: array<vec4<f32>>;
var<workgroup> x: array<vec4<f32>, X_QUADS>;
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
