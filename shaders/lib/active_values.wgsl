// A row is active where its value is not zero (what a threshold left out is zero already).
@group(0) @binding(1) var<storage, read> values: array<f32>;
fn active_word(w: u32) -> u32 {
  var bits = 0u;
  let start = w * 32u;
  let end = min(params.rows, start + 32u);
  for (var i = start; i < end; i++) { bits |= select(0u, 1u << (i - start), values[i] != 0.0); }
  return bits;
}
fn is_active(row: u32) -> bool { return values[row] != 0.0; }
