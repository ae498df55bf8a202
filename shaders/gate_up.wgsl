// out[b, i] = act(G[row(i)] · x[b] + gate bias) · (U[row(i)] · x[b] + up bias), where a stored row is [gate | up].
// Both halves are read in one pass over x. Teams, tiles and grid as in linear.
//@slot params
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
//@slot weights
//@slot team
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
    // Written out for the reason given in linear.
    var gates = array<f32, BATCH_TILE>();
    var ups = array<f32, BATCH_TILE>();
    if (here) {
      let start = row * params.row_stride;
      for (var v = team_lane(at); v < params.dot_vectors; v += team_size(at)) {
        let gate_vector = weights[start + v];
        let up_vector = weights[start + params.dot_vectors + v];
        for (var q = 0u; q < QUADS; q++) {
          let g = quad(gate_vector, q);
          let u = quad(up_vector, q);
          for (var b = 0u; b < BATCH_TILE; b++) {
            let xs = x[(tile + b) * params.x_stride + v * QUADS + q];
            gates[b] += dot(g, xs);
            ups[b] += dot(u, xs);
          }
        }
      }
    }
    for (var b = 0u; b < BATCH_TILE; b++) {
      let gate = team_sum(at, gates[b]);
      let up = team_sum(at, ups[b]);
      if (here && tile + b < step.batch && team_lane(at) == 0u) {
        let biases = row_bias(row);
        let value = activate(gate + biases.x) * (up + biases.y);
        out[(tile + b) * params.out_stride + rows_out(i)] = select(0.0, value, rows_keep(rows_id(i)));
      }
    }
  }
}
