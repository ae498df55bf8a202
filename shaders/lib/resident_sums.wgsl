// As many rows as there are lanes: each lane keeps the sum of one, so that what follows is done for all of them at once.
fn tile_sums(at: Lane, first: u32, turns: u32, stride: u32) -> f32 {
  let lane = team_lane(at);
  var mine = 0.0;
  for (var k = 0u; k < turns; k++) { mine = select(mine, tile_sum(at, (first + k) * stride, 0u), k == lane); }
  return mine;
}
