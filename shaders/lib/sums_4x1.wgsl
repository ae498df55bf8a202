// Four batch elements share one read of a row; a lane owns the columns of one stored vector.
const BATCH_TILE: u32 = 4u;
const VECTORS: u32 = 1u;
const VECTOR_STEP: u32 = 1u;
struct Sums {
  s0: Quads,
  s1: Quads,
  s2: Quads,
  s3: Quads,
}
fn sums_zero() -> Sums {
  let z = quads_zero();
  return Sums(z, z, z, z);
}
fn sums_add(sums: Sums, part: u32, v: u32, scale: f32, at: u32) -> Sums {
  let s = params.x_stride;
  let w = weight_quads(part, v);
  return Sums(
    quads_fma(sums.s0, scale * a[at], w),
    quads_fma(sums.s1, scale * a[at + s], w),
    quads_fma(sums.s2, scale * a[at + 2u * s], w),
    quads_fma(sums.s3, scale * a[at + 3u * s], w),
  );
}
fn sums_quads(sums: Sums, b: u32, k: u32) -> Quads {
  switch b {
    case 0u: { return sums.s0; }
    case 1u: { return sums.s1; }
    case 2u: { return sums.s2; }
    default: { return sums.s3; }
  }
}
