// The rows of 1 field out of bundled rows, where a row's fields stand side by side; copied by one workgroup.
@group(0) @binding(4) var<storage, read_write> slab0: array<Vector>;
@group(0) @binding(9) var<uniform> bundle: vec4<u32>; // vectors before each field in a row; w: of a row
fn copy_from_pool(to: u32, source: u32, local: u32) {
  let row = source * bundle.w;
  for (var v = local; v < params.vectors.x; v += WORKGROUP) {
    slab0[to * params.vectors.x + v] = pool0_at(row + bundle.x + v);
  }
}
fn copy_from_slab(to: u32, source: u32, local: u32) {
  for (var v = local; v < params.vectors.x; v += WORKGROUP) {
    slab0[to * params.vectors.x + v] = slab0[source * params.vectors.x + v];
  }
}
