// out[b, i] = act(G[row(i)] · x[b] + gate bias) · (U[row(i)] · x[b] + up bias), where a stored row is [gate | up].
// Both halves are read in one pass over x. Teams, tiles and grid as in linear.
//@slot params
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
//@slot team
//@slot tile
//@slot dot
//@slot rows
//@slot bias
//@slot activation

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
    var gate = tile_zero();
    var up = tile_zero();
    if (here) {
      let gate_at = row * params.row_stride;
      let up_at = gate_at + params.dot_vectors;
      let x_at = tile * params.x_stride;
      for (var v = team_lane(at); v < params.dot_vectors; v += team_size(at)) {
        gate = tile_add(gate, weights[gate_at + v], x_at + v * QUADS);
        up = tile_add(up, weights[up_at + v], x_at + v * QUADS);
      }
    }
    gate = tile_total(at, gate);
    up = tile_total(at, up);
    if (here && team_lane(at) == 0u) {
      let biases = row_bias(row);
      for (var b = 0u; b < BATCH_TILE && tile + b < step.batch; b++) {
        let value = activate(tile_at(gate, b) + biases.x) * (tile_at(up, b) + biases.y);
        out[(tile + b) * params.out_stride + rows_out(i)] = select(0.0, value, rows_keep(rows_id(i)));
      }
    }
  }
}
