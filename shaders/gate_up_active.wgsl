// A gated layer that finds its own mask, in one dispatch, for one token: act(G · x) of all rows, then U · x of those
// where its size exceeds the threshold (0: exact). A workgroup owns a segment of ROWS rows: it gathers the active ones of
// its segment in order, so that the next kernel needs no list made for it (rows_segments):
// list = [a count a segment, then each segment's active ids from its own start]; out stands at the same places.
// With ALL, the dense baseline: every row is computed, those left out are zero, out is in the order of the rows, and no
// list is made.
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
var<workgroup> kept: array<f32, ROWS>;
var<workgroup> active_rows: array<u32, ROWS>;
var<workgroup> counts: array<u32, WORKGROUP>;
var<workgroup> active_count: u32;
fn up_rows_at(i: u32) -> u32 { return select(active_rows[i], i, ALL == 1u); }
// Not "above": a NaN stays active, and shows.
fn keeps(gate: f32) -> bool { return !(abs(gate) <= params.threshold); }

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, at: Lane) {
  let segment = group.y * groups.x + group.x;
  let first = segment * ROWS;
  if (first >= params.rows) { return; }
  let here = min(ROWS, params.rows - first);
  x_begin(at.local);
  let norm = x_normed(norm_scale(at));
  tile_begin(at, 0u);
  up_tile_begin(at, 0u);
  for (var r = team_first(at) * TILE_ROWS; r < ROWS; r += team_step(at) * TILE_ROWS) {
    if (team_skips(r < here)) { continue; }
    let parts = tile_parts(at, first + r, params.rows);
    let sum = tile_sum(at, parts, 0u);
    // As in linear: no loop where every row of the tile has its lane.
    if (TEAM_LANES >= TILE_ROWS) {
      put_gate(first, r, team_lane(at), here, parts, sum, norm);
    } else {
      for (var k = team_lane(at); k < TILE_ROWS; k += team_size(at)) { put_gate(first, r, k, here, parts, sum, norm); }
    }
  }
  var count = here;
  if (ALL == 0u) { count = compact(at, segment, first, here); }
  for (var r = team_first(at) * up_TILE_ROWS; r < count; r += team_step(at) * up_TILE_ROWS) {
    let parts = up_tile_parts(at, select(0u, first, ALL == 1u) + r, select(count, params.rows, ALL == 1u));
    let sum = up_tile_sum(at, parts, 0u);
    if (TEAM_LANES >= up_TILE_ROWS) {
      put_up(first, r, team_lane(at), count, parts, sum, norm);
    } else {
      for (var k = team_lane(at); k < up_TILE_ROWS; k += team_size(at)) {
        put_up(first, r, k, count, parts, sum, norm);
      }
    }
  }
}

// Moves the active rows of the segment to the front, in order: each lane takes a run of rows. How many there are.
fn compact(at: Lane, segment: u32, first: u32, here: u32) -> u32 {
  const RUN = (ROWS + WORKGROUP - 1u) / WORKGROUP;
  workgroupBarrier();
  let begin = at.local * RUN;
  var n = 0u;
  for (var r = begin; r < begin + RUN; r++) { n += u32(r < here && keeps(gates[min(r, ROWS - 1u)])); }
  counts[at.local] = n;
  workgroupBarrier();
  n = 0u;
  for (var l = 0u; l < WORKGROUP; l++) { n += select(0u, counts[l], l < at.local); }
  for (var r = begin; r < begin + RUN; r++) {
    let gate = gates[min(r, ROWS - 1u)];
    if (r < here && keeps(gate)) {
      active_rows[n] = first + r;
      kept[n] = gate;
      n++;
    }
  }
  if (at.local == WORKGROUP - 1u) {
    active_count = n;
    list[segment] = n;
  }
  return workgroupUniformLoad(&active_count);
}

// act(gate) of row k of a tile that begins at place r of the segment, where it is there.
fn put_gate(first: u32, r: u32, k: u32, here: u32, parts: Parts, sum: Tile, norm: f32) {
  if (k < TILE_ROWS && r + k < here) {
    let scale = norm * part_scale(tile_row(parts, k));
    gates[r + k] = activate(scale * tile_at(sum, k, 0u) + row_bias(first + r + k).x);
  }
}

// The same of up, at place r of the segment's active rows, times the gate.
fn put_up(first: u32, r: u32, k: u32, count: u32, parts: up_Parts, sum: up_Tile, norm: f32) {
  if (k < up_TILE_ROWS && r + k < count) {
    let row = select(active_rows[r + k], first + r + k, ALL == 1u);
    let gate = select(kept[r + k], gates[r + k], ALL == 1u);
    let scale = norm * up_part_scale(up_tile_row(parts, k));
    if (ALL == 0u) { list[(params.rows + ROWS - 1u) / ROWS + first + r + k] = row; }
    out[first + r + k] = select(0.0, gate, keeps(gate)) * (scale * up_tile_at(sum, k, 0u) + up_row_bias(row).x);
  }
}
