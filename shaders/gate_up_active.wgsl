// A gated layer that finds its own mask, in one dispatch, for one token: act(G · x) of all rows, then U · x of those
// where its size exceeds the threshold (0: exact), or of all when ALL is 1 (the others are zero). A workgroup owns a segment of ROWS rows: it gathers the
// active ones of its segment in order, so that the next kernel needs no list made for it (rows_segments):
// list = [a count a segment, then each segment's active ids from its own start]; out stands at the same places.
// Grid: x, y = rows / ROWS, folded. ROWS is a multiple of TILE_ROWS.
//@slot params
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(6) var<storage, read_write> list: array<u32>;
//@slot team
//@slot quads
//@slot x
//@slot dtype
//@slot tile
//@slot rows
//@slot bias
//@slot norm
//@slot activation
// The same again for the rows of U.
//@again up: dtype tile bias (rows_at)
var<workgroup> gates: array<f32, ROWS>;
var<workgroup> active_rows: array<u32, ROWS>;
var<workgroup> active_count: u32;
fn up_rows_at(i: u32) -> u32 { return active_rows[i]; }

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, at: Lane) {
  let segment = group.y * groups.x + group.x;
  let first = segment * ROWS;
  if (first >= params.rows) { return; }
  let here = min(ROWS, params.rows - first);
  let norm = x_normed(norm_scale(at));
  tile_begin(at, 0u);
  up_tile_begin(at, 0u);
  for (var r = team_first(at) * TILE_ROWS; r < ROWS; r += team_step(at) * TILE_ROWS) {
    if (team_skips(r < here)) { continue; }
    let parts = tile_parts(first + r, params.rows);
    let sum = tile_sum(at, parts, 0u);
    for (var k = team_lane(at); k < TILE_ROWS && r + k < here; k += team_size(at)) {
      let scale = norm * part_scale(tile_row(parts, k));
      gates[r + k] = activate(scale * tile_at(sum, k, 0u) + row_bias(first + r + k).x);
    }
  }
  workgroupBarrier();
  if (at.local == 0u) {
    var n = 0u;
    for (var r = 0u; r < here; r++) {
      let gate = gates[r];
      // Not "above": a NaN stays active, and shows.
      let keeps = !(abs(gate) <= params.threshold);
      if (keeps || ALL == 1u) {
        active_rows[n] = first + r;
        gates[n] = select(0.0, gate, keeps);
        n++;
      }
    }
    active_count = n;
    list[segment] = n;
  }
  let count = workgroupUniformLoad(&active_count);
  let ids = (params.rows + ROWS - 1u) / ROWS + first;
  for (var r = team_first(at) * up_TILE_ROWS; r < count; r += team_step(at) * up_TILE_ROWS) {
    let parts = up_tile_parts(r, count);
    let sum = up_tile_sum(at, parts, 0u);
    for (var k = team_lane(at); k < up_TILE_ROWS && r + k < count; k += team_size(at)) {
      let row = active_rows[r + k];
      let scale = norm * up_part_scale(up_tile_row(parts, k));
      list[ids + r + k] = row;
      out[first + r + k] = gates[r + k] * (scale * up_tile_at(sum, k, 0u) + up_row_bias(row).x);
    }
  }
}
