// Logits of one token from the residual stream: norm, and W · x. A workgroup is one subgroup and claims its rows; x stays in
// its lanes' registers. For software adapters and short rows, where a dispatch that puts the stream together costs
// more than doing it again for each workgroup.
// Grid: x = workgroups.
//@slot params
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> logits: array<f32>;
//@slot team
//@slot work
//@slot stream
//@slot quads
//@slot x
//@slot dtype
//@slot resident
//@slot sum

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, at: Lane) {
  var first = work_first(group.x, groups.x, at, params.rows);
  if (first >= params.rows) { return; }
  let norm = stream_begin(at);
  workgroupBarrier();
  tile_begin(at, 0u);
  let lane = team_lane(at);
  let step = team_size(at);
  while (first < params.rows) {
    let end = min(params.rows, first + ROWS);
    for (var eight = first; eight < end; eight += step) {
      let turns = min(step, end - eight);
      let mine = tile_sums(at, eight, turns, params.row_stride);
      if (lane < turns) { logits[eight + lane] = norm * part_scale((eight + lane) * params.row_stride) * mine; }
    }
    first = work_next(groups.x, at, params.rows);
  }
}
