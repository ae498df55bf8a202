// The rows of 1 field, copied by one workgroup: consecutive lanes take consecutive vectors.
@group(0) @binding(4) var<storage, read_write> slab0: array<Vector>;
fn copy_from_pool(to: u32, source: u32, local: u32) {
  for (var v = local; v < params.vectors.x; v += WORKGROUP) {
    slab0[to * params.vectors.x + v] = pool0_at(source * params.vectors.x + v);
  }
}
fn copy_from_slab(to: u32, source: u32, local: u32) {
  for (var v = local; v < params.vectors.x; v += WORKGROUP) {
    slab0[to * params.vectors.x + v] = slab0[source * params.vectors.x + v];
  }
}
