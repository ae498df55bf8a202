// A tile's dot products with an x that is read anew for each: a team's lanes take units in turn, UNROLL of them (1, 2 or
// 4) in a round of the loop, and what is left one by one.
struct TilePair {
  gate: Tile,
  up: Tile,
}
fn tile_begin(at: Lane, x_at: u32) {}
fn tile_sum(at: Lane, parts: Parts, x_at: u32) -> Tile {
  let units = tile_units();
  let step = team_size(at);
  var sum = tile_zero();
  var v = team_lane(at);
  for (; v + (UNROLL - 1u) * step < units; v += UNROLL * step) {
    sum = tile_add(sum, parts, v, tile_x(at, x_at, v));
    if (UNROLL > 1u) { sum = tile_add(sum, parts, v + step, tile_x(at, x_at, v + step)); }
    if (UNROLL > 2u) {
      sum = tile_add(sum, parts, v + 2u * step, tile_x(at, x_at, v + 2u * step));
      sum = tile_add(sum, parts, v + 3u * step, tile_x(at, x_at, v + 3u * step));
    }
  }
  if (UNROLL > 1u) {
    for (; v < units; v += step) { sum = tile_add(sum, parts, v, tile_x(at, x_at, v)); }
  }
  return tile_total(at, sum);
}
fn tile_pair_add(at: Lane, pair: TilePair, gate_parts: Parts, up_parts: Parts, x_at: u32, v: u32) -> TilePair {
  let q = tile_x(at, x_at, v);
  return TilePair(tile_add(pair.gate, gate_parts, v, q), tile_add(pair.up, up_parts, v, q));
}
// Two sets of rows that share each read of x.
fn tile_pair(at: Lane, gate_parts: Parts, up_parts: Parts, x_at: u32) -> TilePair {
  let units = tile_units();
  let step = team_size(at);
  var pair = TilePair(tile_zero(), tile_zero());
  var v = team_lane(at);
  for (; v + (UNROLL - 1u) * step < units; v += UNROLL * step) {
    pair = tile_pair_add(at, pair, gate_parts, up_parts, x_at, v);
    if (UNROLL > 1u) { pair = tile_pair_add(at, pair, gate_parts, up_parts, x_at, v + step); }
    if (UNROLL > 2u) {
      pair = tile_pair_add(at, pair, gate_parts, up_parts, x_at, v + 2u * step);
      pair = tile_pair_add(at, pair, gate_parts, up_parts, x_at, v + 3u * step);
    }
  }
  if (UNROLL > 1u) {
    for (; v < units; v += step) { pair = tile_pair_add(at, pair, gate_parts, up_parts, x_at, v); }
  }
  return TilePair(tile_total(at, pair.gate), tile_total(at, pair.up));
}
