// Where x is read from: the buffer, or with STAGED the workgroup's memory, where x_begin puts it before anything else.
// For software adapters: on lavapipe a vector costs 60 ns there, 166 in a buffer.
var<workgroup> x_near: array<vec4<f32>, X_QUADS>;
fn x_begin(local: u32) {
  if (STAGED == 1u) {
    for (var v = local; v < X_QUADS; v += WORKGROUP) { x_near[v] = x[v]; }
    workgroupBarrier();
  }
}
fn x_vector(at: u32) -> vec4<f32> {
  if (STAGED == 1u) { return x_near[at]; }
  return x[at];
}
