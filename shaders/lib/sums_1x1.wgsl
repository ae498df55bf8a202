// One batch element; a lane owns the columns of one stored vector.
const BATCH_TILE: u32 = 1u;
const VECTORS: u32 = 1u;
const VECTOR_STEP: u32 = 1u;
alias Sums = Quads;
fn sums_zero() -> Sums { return quads_zero(); }
fn sums_add(sums: Sums, part: u32, v: u32, scale: f32, at: u32) -> Sums {
  return quads_fma(sums, a[at] * scale, weight_quads(part, v));
}
fn sums_quads(sums: Sums, b: u32, k: u32) -> Quads { return sums; }
