// x in the workgroup's memory, where x_begin puts it before anything else. For lavapipe, where a vector costs 60 ns there,
// 166 in a buffer.
var<workgroup> x_near: array<vec4<f32>, X_QUADS>;
fn x_begin(local: u32) {
  for (var v = local; v < X_QUADS; v += WORKGROUP) { x_near[v] = x[v]; }
  workgroupBarrier();
}
fn x_vector(at: u32) -> vec4<f32> { return x_near[at]; }
