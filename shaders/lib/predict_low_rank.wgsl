// A row is predicted where P[row] · (Q · x) exceeds its limit. Q · x was found before; a 1 follows it, and in a row's codes
// (f16) the limit's negative.
@group(0) @binding(9) var<storage, read> latent: array<vec4<f32>>;
fn predict_begin(local: u32, norm: f32) {}
fn halves(code: vec4<u32>, p: vec4<f32>, q: vec4<f32>) -> f32 {
  return dot(vec4<f32>(unpack2x16float(code.x), unpack2x16float(code.y)), p) +
    dot(vec4<f32>(unpack2x16float(code.z), unpack2x16float(code.w)), q);
}
fn predict_rows(rows: vec4<u32>) -> vec4<bool> {
  var scores = vec4<f32>(0.0);
  for (var v = 0u; v < VECTORS; v++) {
    let p = latent[2u * v];
    let q = latent[2u * v + 1u];
    let panel = v * params.rows;
    scores += vec4<f32>(
      halves(codes[panel + rows.x], p, q),
      halves(codes[panel + rows.y], p, q),
      halves(codes[panel + rows.z], p, q),
      halves(codes[panel + rows.w], p, q),
    );
  }
  return scores > vec4<f32>(0.0);
}
