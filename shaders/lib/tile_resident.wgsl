// One row at a time against an x that stays in the lanes' registers: a lane has RESIDENT units of it, and a row is that
// many units for each of its lanes, no more and no less. For short rows; where a load costs more than arithmetic (software
// adapters) a fifth faster than reading x again for every four rows.
const TILE_ROWS: u32 = 1u;
const BATCH_TILE: u32 = 1u;
alias Parts = u32;
alias Tile = f32;
var<private> x0: Quads;
var<private> x1: Quads;
var<private> x2: Quads;
var<private> x3: Quads;
var<private> x4: Quads;
var<private> x5: Quads;
var<private> x6: Quads;
var<private> x7: Quads;
fn tile_parts(i: u32, count: u32) -> Parts { return tile_part(i, count); }
fn tile_begin(at: Lane, x_at: u32) {
  let lane = x_at + team_lane(at) * QUADS;
  let step = team_size(at) * QUADS;
  x0 = x_quads(lane);
  if (RESIDENT > 1u) { x1 = x_quads(lane + step); }
  if (RESIDENT > 2u) { x2 = x_quads(lane + 2u * step); }
  if (RESIDENT > 3u) { x3 = x_quads(lane + 3u * step); }
  if (RESIDENT > 4u) { x4 = x_quads(lane + 4u * step); }
  if (RESIDENT > 5u) { x5 = x_quads(lane + 5u * step); }
  if (RESIDENT > 6u) { x6 = x_quads(lane + 6u * step); }
  if (RESIDENT > 7u) { x7 = x_quads(lane + 7u * step); }
}
fn tile_sum(at: Lane, parts: Parts, x_at: u32) -> Tile {
  let lane = team_lane(at);
  let step = team_size(at);
  var sum = quads_dot(weight_quads(parts, lane), x0);
  if (RESIDENT > 1u) { sum += quads_dot(weight_quads(parts, lane + step), x1); }
  if (RESIDENT > 2u) { sum += quads_dot(weight_quads(parts, lane + 2u * step), x2); }
  if (RESIDENT > 3u) { sum += quads_dot(weight_quads(parts, lane + 3u * step), x3); }
  if (RESIDENT > 4u) { sum += quads_dot(weight_quads(parts, lane + 4u * step), x4); }
  if (RESIDENT > 5u) { sum += quads_dot(weight_quads(parts, lane + 5u * step), x5); }
  if (RESIDENT > 6u) { sum += quads_dot(weight_quads(parts, lane + 6u * step), x6); }
  if (RESIDENT > 7u) { sum += quads_dot(weight_quads(parts, lane + 7u * step), x7); }
  return team_sum(at, sum);
}
fn tile_row(parts: Parts, r: u32) -> u32 { return parts; }
fn tile_at(sum: Tile, r: u32, b: u32) -> f32 { return sum; }
