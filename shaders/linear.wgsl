// out[b, i] = put(W[row(i)] · x[b] + bias[row(i)]): rows of W against each x of the batch, in f32.
// Each team takes a row at a time and BATCH_TILE of the batch, so that a row is read once per tile.
// Grid: x, y = rows / ROWS, folded; z = batch / BATCH_TILE.
//@slot params
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
//@slot team
//@slot tile
//@slot dot
//@slot rows
//@slot bias
//@slot activation
//@slot put

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, at: Lane) {
  let first = (group.y * groups.x + group.x) * ROWS;
  let tile = group.z * BATCH_TILE;
  let count = rows_count();
  // A static grid covers more rows than a list may hold: what lies beyond leaves at once.
  if (first >= count) { return; }
  for (var r = team_first(at); r < ROWS; r += team_step(at)) {
    let i = first + r;
    let row = rows_at(min(i, count - 1u));
    let here = i < count && row != ABSENT;
    if (team_skips(here)) { continue; }
    var sum = tile_zero();
    if (here) {
      let weights_at = row * params.row_stride;
      let x_at = tile * params.x_stride;
      for (var v = team_lane(at); v < params.dot_vectors; v += team_size(at)) {
        sum = tile_add(sum, weights[weights_at + v], x_at + v * QUADS);
      }
    }
    sum = tile_total(at, sum);
    if (here && team_lane(at) == 0u) {
      let bias = row_bias(row).x;
      for (var b = 0u; b < BATCH_TILE && tile + b < step.batch; b++) {
        put(tile + b, rows_out(i), rows_id(i), tile_at(sum, b) + bias);
      }
    }
  }
}
