// One part of one field, copied by one workgroup and converted on the way: stored values are widened to f32 a quad at a
// time and put in the slab as its dtype. All figures are vectors of 16 bytes.
struct Shape {
  pool_row: u32,    // of a pool row
  pool_part: u32,   // before the part, in a pool row
  pool_values: u32, // of values in the part; scales, where the dtype has them, follow
  slab_row: u32,    // of a slab row
  slab_part: u32,   // before the part, in a slab row
  slab_values: u32, // of the part in a slab row
}
@group(0) @binding(4) var<storage, read_write> slab0: array<vec4<u32>>;
@group(0) @binding(5) var<uniform> shape: Shape;
//@slot from
//@slot to
fn copy_from_pool(to: u32, source: u32, local: u32) {
  let part = source * shape.pool_row + shape.pool_part;
  let first = to * shape.slab_row + shape.slab_part;
  for (var v = local; v < shape.slab_values; v += WORKGROUP) { slab0[first + v] = slab_vector(part, v); }
}
fn copy_from_slab(to: u32, source: u32, local: u32) {
  let part = source * shape.slab_row + shape.slab_part;
  let first = to * shape.slab_row + shape.slab_part;
  for (var v = local; v < shape.slab_values; v += WORKGROUP) { slab0[first + v] = slab0[part + v]; }
}
