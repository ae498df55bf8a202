// Eight batch elements share one read of a row; a lane owns the columns of one stored vector.
const BATCH_TILE: u32 = 8u;
const VECTORS: u32 = 1u;
const VECTOR_STEP: u32 = 1u;
struct Sums {
  s0: Quads,
  s1: Quads,
  s2: Quads,
  s3: Quads,
  s4: Quads,
  s5: Quads,
  s6: Quads,
  s7: Quads,
}
fn sums_zero() -> Sums {
  let z = quads_zero();
  return Sums(z, z, z, z, z, z, z, z);
}
fn sums_add(sums: Sums, part: u32, v: u32, scale: f32, at: u32) -> Sums {
  let s = params.x_stride;
  let w = weight_quads(part, v);
  return Sums(
    quads_fma(sums.s0, scale * a[at], w),
    quads_fma(sums.s1, scale * a[at + s], w),
    quads_fma(sums.s2, scale * a[at + 2u * s], w),
    quads_fma(sums.s3, scale * a[at + 3u * s], w),
    quads_fma(sums.s4, scale * a[at + 4u * s], w),
    quads_fma(sums.s5, scale * a[at + 5u * s], w),
    quads_fma(sums.s6, scale * a[at + 6u * s], w),
    quads_fma(sums.s7, scale * a[at + 7u * s], w),
  );
}
fn sums_quads(sums: Sums, b: u32, k: u32) -> Quads {
  switch b {
    case 0u: { return sums.s0; }
    case 1u: { return sums.s1; }
    case 2u: { return sums.s2; }
    case 3u: { return sums.s3; }
    case 4u: { return sums.s4; }
    case 5u: { return sums.s5; }
    case 6u: { return sums.s6; }
    default: { return sums.s7; }
  }
}
