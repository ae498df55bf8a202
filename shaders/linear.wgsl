// out[b, i] = put(W[row(i)] · x[b] + bias[row(i)]): rows of W against each x of the batch, sums in f32.
// Each team takes TILE_ROWS rows and BATCH_TILE of the batch at a time: a row is read once per tile, x once per rows.
// Grid: x, y = rows / ROWS, folded, or as many as are to claim them (work_claims); z = batch / BATCH_TILE.
// ROWS is a multiple of TILE_ROWS.
//@slot params
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
//@slot team
//@slot quads
//@slot x
//@slot dtype
//@slot tile
//@slot rows
//@slot bias
//@slot norm
//@slot activation
//@slot put

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, at: Lane) {
  let tile = group.z * BATCH_TILE;
  let count = rows_count();
  let all = groups.x * groups.y;
  var first = work_first(group.y * groups.x + group.x, all, at, count);
  // A static grid covers more rows than a list may hold: what lies beyond leaves at once.
  if (first >= count) { return; }
  x_begin(at.local);
  let norm = x_normed(norm_scale(at));
  let x_at = tile * params.x_stride;
  tile_begin(at, x_at);
  while (first < count) {
    for (var r = team_first(at) * TILE_ROWS; r < ROWS; r += team_step(at) * TILE_ROWS) {
      let i = first + r;
      // Among the rows of a list, a tile of one can pass over those of other shards.
      if (team_skips(i < count && (TILE_ROWS > 1u || rows_at(min(i, count - 1u)) != ABSENT))) { continue; }
      let parts = tile_parts(at, i, count);
      let sum = tile_sum(at, parts, x_at);
      // A loop that some lanes leave before others takes a lane's worth of time for each round on software adapters.
      if (TEAM_LANES >= TILE_ROWS) {
        put_row(i, team_lane(at), count, parts, sum, norm, tile);
      } else {
        for (var k = team_lane(at); k < TILE_ROWS; k += team_size(at)) { put_row(i, k, count, parts, sum, norm, tile); }
      }
    }
    first = work_next(all, at, count);
  }
}

// Row k of a tile that begins at place i, where it is there.
fn put_row(i: u32, k: u32, count: u32, parts: Parts, sum: Tile, norm: f32, tile: u32) {
  if (k < TILE_ROWS && i + k < count) {
    let row = rows_at(i + k);
    if (row != ABSENT) {
      let bias = row_bias(row).x;
      let scale = norm * part_scale(tile_row(parts, k));
      if (BATCH_TILE == 1u) {
        if (tile < step.batch) { put(tile, rows_out(i + k), rows_id(i + k), scale * tile_at(sum, k, 0u) + bias); }
      } else {
        for (var b = 0u; b < BATCH_TILE && tile + b < step.batch; b++) {
          put(tile + b, rows_out(i + k), rows_id(i + k), scale * tile_at(sum, k, b) + bias);
        }
      }
    }
  }
}
