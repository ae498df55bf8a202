// One span: the head's output.
@group(0) @binding(5) var<storage, read_write> out: array<f32>;
fn finish(b: u32, head: u32, span: u32, spans: u32, quad: u32, best: f32, total: f32, sum: vec4<f32>) {
  let start = b * params.out_stride + head * params.head_dim;
  for (var e = 0u; e < 4u; e++) {
    if (quad * 4u + e < params.head_dim) { out[start + quad * 4u + e] = sum[e] / total; }
  }
}
fn finish_all(kv: u32, local: u32) {}
