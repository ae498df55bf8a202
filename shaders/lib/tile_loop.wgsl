// A tile's dot products with an x that is read anew for each: a team's lanes take units in turn.
fn tile_begin(at: Lane, x_at: u32) {}
fn tile_sum(at: Lane, parts: Parts, x_at: u32) -> Tile {
  var sum = tile_zero();
  for (var v = team_lane(at); v < tile_units(); v += team_size(at)) {
    sum = tile_add(sum, parts, v, tile_x(at, x_at, v));
  }
  return tile_total(at, sum);
}
