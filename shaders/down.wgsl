// partials[s, b, c] = sum over split s of the rows of a[b, i] · D[row(i), c], where row(i) is stored as a row of D.
// Lanes own the columns of VECTORS stored vectors (or words) each, VECTOR_STEP apart; splits are added by
// sum_partials, unless there is only one.
// Grid: x = units of a row / (WORKGROUP · VECTORS); y = splits; z = batch / BATCH_TILE.
//@slot params
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(3) var<storage, read> a: array<f32>;
//@slot quads
//@slot dtype
//@slot sums
//@slot rows
//@slot finish

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
  // Side by side where the step is one, else the workgroup's lanes side by side.
  let v = group.x * WORKGROUP * VECTORS + local * select(VECTORS, 1u, VECTOR_STEP > 1u);
  if (v >= params.dot_units) { return; }
  let tile = group.z * BATCH_TILE;
  var sums = sums_zero();
  let spans = spans_of(group.y, groups.y);
  for (var s = spans.x; s < spans.y; s++) {
    let span = span_at(s, groups.y);
    for (var i = span.x; i < span.y; i++) {
      let row = rows_at(i);
      if (row != ABSENT) {
        let part = row * params.row_stride + params.start;
        sums = sums_add(sums, part, v, part_scale(part), tile * params.x_stride + rows_out(i));
      }
    }
  }
  let split = params.first_split + group.y;
  for (var b = 0u; b < BATCH_TILE && tile + b < step.batch; b++) {
    for (var k = 0u; k < VECTORS; k++) {
      let quads = sums_quads(sums, b, k);
      for (var q = 0u; q < QUADS; q++) { finish(split, tile + b, (v + k * VECTOR_STEP) * QUADS + q, quads_at(quads, q)); }
    }
  }
}
