// One batch element; a lane owns the columns of two stored vectors side by side, which halves the rounds of the loop.
const BATCH_TILE: u32 = 1u;
const VECTORS: u32 = 2u;
const VECTOR_STEP: u32 = 1u;
struct Sums {
  first: Quads,
  second: Quads,
}
fn sums_zero() -> Sums { return Sums(quads_zero(), quads_zero()); }
fn sums_add(sums: Sums, part: u32, v: u32, scale: f32, at: u32) -> Sums {
  let f = a[at] * scale;
  return Sums(
    quads_fma(sums.first, f, weight_quads(part, v)),
    quads_fma(sums.second, f, weight_quads(part, v + 1u)),
  );
}
fn sums_quads(sums: Sums, b: u32, k: u32) -> Quads {
  if (k == 0u) { return sums.first; }
  return sums.second;
}
