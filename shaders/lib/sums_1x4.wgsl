// One batch element; a lane owns the columns of four stored vectors side by side: longer runs of each row, for rows that
// lie far apart, where what counts is how much of a row is under way at a time.
const BATCH_TILE: u32 = 1u;
const VECTORS: u32 = 4u;
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
  let f = a[at] * scale;
  return Sums(
    quads_fma(sums.s0, f, weight_quads(part, v)),
    quads_fma(sums.s1, f, weight_quads(part, v + 1u)),
    quads_fma(sums.s2, f, weight_quads(part, v + 2u)),
    quads_fma(sums.s3, f, weight_quads(part, v + 3u)),
  );
}
fn sums_quads(sums: Sums, b: u32, k: u32) -> Quads {
  switch k {
    case 0u: { return sums.s0; }
    case 1u: { return sums.s1; }
    case 2u: { return sums.s2; }
    default: { return sums.s3; }
  }
}
