// An x that stays in the lanes' registers: a lane has RESIDENT units of it.
var<private> x0: Quads;
var<private> x1: Quads;
var<private> x2: Quads;
var<private> x3: Quads;
var<private> x4: Quads;
var<private> x5: Quads;
var<private> x6: Quads;
var<private> x7: Quads;
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
