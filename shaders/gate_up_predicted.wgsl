// A gated layer whose rows are predicted, in one dispatch, for one token: a cheap score of each row says whether its gate
// is worth computing; act(G · x) of those rows, then U · x of those of them whose size exceeds the threshold (0: exact).
// A row that was predicted and is not active costs its row of G; one that is active and was missed is left out.
// As in gate_up_active a workgroup owns a segment of ROWS rows and leaves what the next kernel reads (rows_segments):
// list = [a count a segment, then each segment's active ids from its own start, then each segment's predicted rows as a
// count]; out stands at the places of the ids.
// Grid: x, y = rows / ROWS, folded. ROWS is a multiple of TILE_ROWS.
//@slot params
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(6) var<storage, read_write> list: array<u32>;
struct Predict {
  columns: u32, // of x
  scale: f32,   // of x, to the levels that signs are taken of
}
@group(0) @binding(1) var<uniform> predict: Predict;
// Panels of one vec4 of every row: neighbouring rows' codes are neighbours.
@group(0) @binding(7) var<storage, read> codes: array<vec4<u32>>;
//@slot team
//@slot quads
//@slot x
//@slot dtype
//@slot tile
//@slot norm
//@slot activation
// The same again for the rows of U.
//@again up: dtype tile (rows_at)
const NOT_CHOSEN: u32 = 0xffffffffu;
var<private> segment_first: u32;
// By place in the segment.
var<workgroup> gates: array<f32, ROWS>;
// Places that may be chosen, or NOT_CHOSEN; those that are, without gaps.
var<workgroup> offered: array<u32, ROWS>;
var<workgroup> chosen: array<u32, ROWS>;
var<workgroup> counts: array<u32, WORKGROUP>;
var<workgroup> chosen_count: u32;
fn rows_at(i: u32) -> u32 { return segment_first + chosen[i]; }
fn up_rows_at(i: u32) -> u32 { return rows_at(i); }
// Not "above": a NaN stays active, and shows.
fn keeps(gate: f32) -> bool { return !(abs(gate) <= params.threshold); }
//@slot predictor

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, at: Lane) {
  let segment = group.y * groups.x + group.x;
  let first = segment * ROWS;
  if (first >= params.rows) { return; }
  segment_first = first;
  let here = min(ROWS, params.rows - first);
  let scale = norm_scale(at);
  predict_begin(at.local, scale);
  x_begin(at.local);
  workgroupBarrier();
  for (var r = at.local; r < ROWS; r += 4u * WORKGROUP) {
    let places = r + WORKGROUP * vec4<u32>(0u, 1u, 2u, 3u);
    let hits = predict_rows(first + min(places, vec4<u32>(here - 1u))) & (places < vec4<u32>(here));
    let offers = select(vec4<u32>(NOT_CHOSEN), places, hits);
    offered[places.x] = offers.x;
    if (places.y < ROWS) { offered[places.y] = offers.y; }
    if (places.z < ROWS) { offered[places.z] = offers.z; }
    if (places.w < ROWS) { offered[places.w] = offers.w; }
  }
  let predicted = choose(at.local, here);
  let norm = x_normed(scale);
  tile_begin(at, 0u);
  up_tile_begin(at, 0u);
  for (var r = team_first(at) * TILE_ROWS; r < predicted; r += team_step(at) * TILE_ROWS) {
    let parts = tile_parts(at, r, predicted);
    let sum = tile_sum(at, parts, 0u);
    // As in linear: no loop where every row of the tile has its lane.
    if (TEAM_LANES >= TILE_ROWS) {
      put_gate(r, team_lane(at), predicted, parts, sum, norm);
    } else {
      for (var k = team_lane(at); k < TILE_ROWS; k += team_size(at)) { put_gate(r, k, predicted, parts, sum, norm); }
    }
  }
  let count = choose(at.local, predicted);
  for (var r = team_first(at) * up_TILE_ROWS; r < count; r += team_step(at) * up_TILE_ROWS) {
    let parts = up_tile_parts(at, r, count);
    let sum = up_tile_sum(at, parts, 0u);
    if (TEAM_LANES >= up_TILE_ROWS) {
      put_up(r, team_lane(at), count, parts, sum, norm);
    } else {
      for (var k = team_lane(at); k < up_TILE_ROWS; k += team_size(at)) { put_up(r, k, count, parts, sum, norm); }
    }
  }
  if (at.local == 0u) {
    let segments = (params.rows + ROWS - 1u) / ROWS;
    list[segment] = count;
    list[segments + params.rows + segment] = predicted;
  }
}

// Moves those of the first `here` places of `offered` that are there to `chosen`, in order: each lane takes a run of them.
// How many they are.
fn choose(local: u32, here: u32) -> u32 {
  const RUN = (ROWS + WORKGROUP - 1u) / WORKGROUP;
  // What was offered is there, and what was chosen before has been read.
  workgroupBarrier();
  let begin = local * RUN;
  let end = min(begin + RUN, here);
  var n = 0u;
  for (var r = begin; r < end; r++) { n += u32(offered[r] != NOT_CHOSEN); }
  counts[local] = n;
  workgroupBarrier();
  n = 0u;
  for (var l = 0u; l < WORKGROUP; l++) { n += select(0u, counts[l], l < local); }
  for (var r = begin; r < end; r++) {
    let place = offered[r];
    if (place != NOT_CHOSEN) {
      chosen[n] = place;
      n++;
    }
  }
  if (local == WORKGROUP - 1u) { chosen_count = n; }
  return workgroupUniformLoad(&chosen_count);
}

// act(gate) of row k of a tile that begins at r among the predicted ones, where it is there.
fn put_gate(r: u32, k: u32, count: u32, parts: Parts, sum: Tile, norm: f32) {
  if (k < TILE_ROWS && r + k < count) {
    let place = chosen[r + k];
    let gate = activate(norm * part_scale(tile_row(parts, k)) * tile_at(sum, k, 0u));
    gates[place] = gate;
    offered[r + k] = select(NOT_CHOSEN, place, keeps(gate));
  }
}

// The same of up among the active ones, times the gate.
fn put_up(r: u32, k: u32, count: u32, parts: up_Parts, sum: up_Tile, norm: f32) {
  if (k < up_TILE_ROWS && r + k < count) {
    let place = chosen[r + k];
    list[(params.rows + ROWS - 1u) / ROWS + segment_first + r + k] = segment_first + place;
    out[segment_first + r + k] = gates[place] * norm * up_part_scale(up_tile_row(parts, k)) * up_tile_at(sum, k, 0u);
  }
}
