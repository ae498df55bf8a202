// Eight batch elements share one read of a row. Written out, for the reason given in tile_1.
const BATCH_TILE: u32 = 8u;
struct Sums {
  s0: vec4<f32>,
  s1: vec4<f32>,
  s2: vec4<f32>,
  s3: vec4<f32>,
  s4: vec4<f32>,
  s5: vec4<f32>,
  s6: vec4<f32>,
  s7: vec4<f32>,
}
fn sums_zero() -> Sums {
  let z = vec4<f32>(0.0);
  return Sums(z, z, z, z, z, z, z, z);
}
fn sums_add(sums: Sums, w: vec4<f32>, at: u32) -> Sums {
  let s = params.x_stride;
  return Sums(
    sums.s0 + a[at] * w,
    sums.s1 + a[at + s] * w,
    sums.s2 + a[at + 2u * s] * w,
    sums.s3 + a[at + 3u * s] * w,
    sums.s4 + a[at + 4u * s] * w,
    sums.s5 + a[at + 5u * s] * w,
    sums.s6 + a[at + 6u * s] * w,
    sums.s7 + a[at + 7u * s] * w,
  );
}
fn sums_at(sums: Sums, b: u32) -> vec4<f32> {
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
