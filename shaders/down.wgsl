// partials[s, b, c] = sum over split s of the rows of a[b, i] · D[row(i), c], where row(i) is stored as a row of D.
// Lanes own one vector of columns each, so that a row is read coalesced; splits are added by sum_partials.
// Grid: x = column vectors / WORKGROUP; y = splits; z = batch / BATCH_TILE.
//@slot params
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> a: array<f32>;
@group(0) @binding(4) var<storage, read_write> partials: array<vec4<f32>>;
//@slot weights
//@slot rows

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
  let v = group.x * WORKGROUP + local;
  if (v >= params.dot_vectors) { return; }
  let tile = group.z * BATCH_TILE;
  let count = rows_count();
  let share = (count + groups.y - 1u) / groups.y;
  let end = min(count, (group.y + 1u) * share);
  var sums: array<array<vec4<f32>, QUADS>, BATCH_TILE>;
  for (var i = group.y * share; i < end; i++) {
    let row = rows_at(i);
    if (row == ABSENT) { continue; }
    let vector = weights[row * params.row_stride + v];
    for (var b = 0u; b < BATCH_TILE; b++) {
      let weight = a[(tile + b) * params.x_stride + rows_out(i)];
      for (var q = 0u; q < QUADS; q++) { sums[b][q] += weight * quad(vector, q); }
    }
  }
  // out_stride: vec4<f32> of one output row; gate_stride: first split of this shard.
  let split = params.gate_stride + group.y;
  for (var b = 0u; b < BATCH_TILE; b++) {
    if (tile + b >= step.batch) { break; }
    for (var q = 0u; q < QUADS; q++) {
      partials[(split * step.batch + tile + b) * params.out_stride + v * QUADS + q] = sums[b][q];
    }
  }
}
