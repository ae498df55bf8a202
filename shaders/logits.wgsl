// Logits of one token from the residual stream: norm, and W · x. A workgroup is one subgroup and has a run of the rows; x
// stays in its lanes' registers. For software adapters and short rows, where a dispatch that puts the stream together costs
// more than doing it again for each run.
// Grid: x = runs.
//@slot params
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> logits: array<f32>;
//@slot team
//@slot stream
//@slot quads
//@slot x
//@slot dtype
//@slot resident
//@slot sum

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, at: Lane) {
  let norm = stream_begin(at);
  workgroupBarrier();
  tile_begin(at, 0u);
  let lane = team_lane(at);
  let step = team_size(at);
  let share = (params.rows + groups.x - 1u) / groups.x;
  let end = min(params.rows, (group.x + 1u) * share);
  for (var first = group.x * share; first < end; first += step) {
    // Each lane keeps the sum of a row of its own, and all are left at once.
    let turns = min(step, end - first);
    var mine = 0.0;
    for (var k = 0u; k < turns; k++) {
      mine = select(mine, tile_sum(at, (first + k) * params.row_stride, 0u), k == lane);
    }
    if (lane < turns) { logits[first + lane] = norm * part_scale((first + lane) * params.row_stride) * mine; }
  }
}
