// out = the spans of each head that `attention` left, put together. Grid: x = heads; y = batch.
// spans: [batch, head, SPAN] of (best, total, 0, 0) and the head's quads.
struct Params {
  heads: u32,
  head_dim: u32,
  out_stride: u32, // of out, in f32
  spans: u32,      // of a head
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> spans: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let dim = params.head_dim;
  let quads = (dim + 3u) / 4u;
  let each = quads + 1u;
  let first = (group.y * params.heads + group.x) * params.spans * each;
  var best = spans[first].x;
  for (var s = 1u; s < params.spans; s++) { best = max(best, spans[first + s * each].x); }
  for (var q = local; q < quads; q += WORKGROUP) {
    var total = 0.0;
    var sum = vec4<f32>(0.0);
    for (var s = 0u; s < params.spans; s++) {
      let span = first + s * each;
      let head = spans[span];
      let weight = exp(head.x - best);
      total += weight * head.y;
      sum += weight * spans[span + 1u + q];
    }
    for (var e = 0u; e < 4u; e++) {
      if (q * 4u + e < dim) { out[group.y * params.out_stride + group.x * dim + q * 4u + e] = sum[e] / total; }
    }
  }
}
