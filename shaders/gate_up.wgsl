// out[b, i] = act(G[row(i)] · x[b] + gate bias) · (U[row(i)] · x[b] + up bias), where a stored row is [gate | up].
// Both halves are read in one pass over x. Teams, tiles and grid as in linear.
//@slot params
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
//@slot team
//@slot quads
//@slot x
//@slot dtype
//@slot tile
//@slot rows
//@slot bias
//@slot activation

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, at: Lane) {
  let tile = group.z * BATCH_TILE;
  let count = rows_count();
  let all = groups.x * groups.y;
  var first = work_first(group.y * groups.x + group.x, all, at, count);
  // A static grid covers more rows than a list may hold: what lies beyond leaves at once.
  if (first >= count) { return; }
  x_begin(at.local);
  while (first < count) {
    for (var r = team_first(at) * TILE_ROWS; r < ROWS; r += team_step(at) * TILE_ROWS) {
      let i = first + r;
      // Among the rows of a list, a tile of one can pass over those of other shards.
      if (team_skips(i < count && (TILE_ROWS > 1u || rows_at(min(i, count - 1u)) != ABSENT))) { continue; }
      let gate_parts = tile_parts(at, i, count);
      let up_parts = gate_parts + Parts(params.part_stride);
      let x_at = tile * params.x_stride;
      let sums = tile_pair(at, gate_parts, up_parts, x_at);
      // As in linear: no loop where every row of the tile has its lane.
      if (TEAM_LANES >= TILE_ROWS) {
        put_row(i, team_lane(at), count, gate_parts, sums.gate, sums.up, tile);
      } else {
        for (var k = team_lane(at); k < TILE_ROWS; k += team_size(at)) {
          put_row(i, k, count, gate_parts, sums.gate, sums.up, tile);
        }
      }
    }
    first = work_next(all, at, count);
  }
}

// Row k of a tile that begins at place i, where it is there.
fn put_row(i: u32, k: u32, count: u32, gate_parts: Parts, gate: Tile, up: Tile, tile: u32) {
  if (k < TILE_ROWS && i + k < count) {
    let row = rows_at(i + k);
    if (row != ABSENT) {
      let biases = row_bias(row);
      let scales = vec2<f32>(
        part_scale(tile_row(gate_parts, k)),
        part_scale(tile_row(gate_parts + Parts(params.part_stride), k)),
      );
      if (BATCH_TILE == 1u) {
        if (tile < step.batch) { put(i + k, k, 0u, tile, gate, up, scales, biases); }
      } else {
        for (var b = 0u; b < BATCH_TILE && tile + b < step.batch; b++) {
          put(i + k, k, b, tile, gate, up, scales, biases);
        }
      }
    }
  }
}

fn put(i: u32, k: u32, b: u32, tile: u32, gate: Tile, up: Tile, scales: vec2<f32>, biases: vec4<f32>) {
  let value = activate(scales.x * tile_at(gate, k, b) + biases.x) * (scales.y * tile_at(up, k, b) + biases.y);
  out[(tile + b) * params.out_stride + rows_out(i)] = select(0.0, value, rows_keep(tile + b, rows_id(i)));
}
