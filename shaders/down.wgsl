// partials[s, b, c] = sum over split s of the rows of a[b, i] · D[row(i), c], where row(i) is stored as a row of D.
// Lanes own one quad of columns each, so that a row is read coalesced; splits are added by sum_partials,
// unless there is only one.
// Strides are in quads (of weights: four values in their dtype; of partials: vec4<f32>).
// Grid: x = column quads / WORKGROUP; y = splits; z = batch / BATCH_TILE.
struct Params {
  rows: u32,        // rows of this shard
  row_base: u32,    // id of the shard's first row
  quads: u32,       // of a stored row, and of a partial row
  x_stride: u32,    // of a, in f32
  first_split: u32, // of this shard
  columns: u32,     // of out
  out_stride: u32,  // of out, in f32
}
struct Step {
  batch: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(3) var<storage, read> a: array<f32>;
//@slot weights
//@slot sums
//@slot rows
//@slot finish

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
  let c = group.x * WORKGROUP + local;
  if (c >= params.quads) { return; }
  let tile = group.z * BATCH_TILE;
  let count = rows_count();
  let share = (count + groups.y - 1u) / groups.y;
  let end = min(count, (group.y + 1u) * share);
  var sums = sums_zero();
  for (var i = group.y * share; i < end; i++) {
    let row = rows_at(i);
    if (row != ABSENT) {
      sums = sums_add(sums, weight_quad(row * params.quads + c), tile * params.x_stride + rows_out(i));
    }
  }
  let split = params.first_split + group.y;
  for (var b = 0u; b < BATCH_TILE && tile + b < step.batch; b++) {
    finish(split, tile + b, c, sums_at(sums, b));
  }
}
