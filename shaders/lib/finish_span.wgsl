// One of several spans, for attention_merge: [batch, head, span] of (best, total, 0, 0) and the sums so far.
@group(0) @binding(7) var<storage, read_write> mixed_spans: array<vec4<f32>>;
fn finish(b: u32, head: u32, span: u32, spans: u32, quad: u32, best: f32, total: f32, sum: vec4<f32>) {
  let start = ((b * params.heads + head) * spans + span) * (HEAD_QUADS + 1u);
  if (quad == 0u) { mixed_spans[start] = vec4<f32>(best, total, 0.0, 0.0); }
  if (quad < HEAD_QUADS) { mixed_spans[start + 1u + quad] = sum; }
}
fn finish_all(kv: u32, local: u32) {}
