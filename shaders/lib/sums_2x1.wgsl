// Two batch elements share one read of a row; a lane owns the columns of one stored vector.
const BATCH_TILE: u32 = 2u;
const VECTORS: u32 = 1u;
struct Sums {
  s0: Quads,
  s1: Quads,
}
fn sums_zero() -> Sums {
  let z = quads_zero();
  return Sums(z, z);
}
fn sums_add(sums: Sums, part: u32, v: u32, scale: f32, at: u32) -> Sums {
  let s = params.x_stride;
  let w = weight_quads(part, v);
  return Sums(
    quads_fma(sums.s0, scale * a[at], w),
    quads_fma(sums.s1, scale * a[at + s], w),
  );
}
fn sums_quads(sums: Sums, b: u32, k: u32) -> Quads {
  switch b {
    case 0u: { return sums.s0; }
    default: { return sums.s1; }
  }
}
