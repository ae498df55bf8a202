// mask word w has bit i set where values[32 w + i] is not zero (union: of any batch element): the active rows, small
// enough to read back.
// Grid: x = words / WORKGROUP.
struct Params {
  rows: u32,
  stride: u32, // of a batch element's values, in vec4<f32>
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read_write> mask: array<u32>;
//@slot active

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
  if (at.x * 32u >= params.rows) { return; }
  mask[at.x] = active_word(at.x);
}
