// The quads of a head that one lane has: eight, LANES apart.
fn lane_query(h: u32, lane: u32) -> Quads {
  return Quads(
    query_at(h, lane, 0u),
    query_at(h, lane, 1u),
    query_at(h, lane, 2u),
    query_at(h, lane, 3u),
    query_at(h, lane, 4u),
    query_at(h, lane, 5u),
    query_at(h, lane, 6u),
    query_at(h, lane, 7u),
  );
}
fn lane_key(start: u32, lane: u32) -> Quads {
  return Quads(
    key_at(start, lane, 0u),
    key_at(start, lane, 1u),
    key_at(start, lane, 2u),
    key_at(start, lane, 3u),
    key_at(start, lane, 4u),
    key_at(start, lane, 5u),
    key_at(start, lane, 6u),
    key_at(start, lane, 7u),
  );
}
fn lane_value(start: u32, lane: u32) -> Quads {
  return Quads(
    value_at(start, lane, 0u),
    value_at(start, lane, 1u),
    value_at(start, lane, 2u),
    value_at(start, lane, 3u),
    value_at(start, lane, 4u),
    value_at(start, lane, 5u),
    value_at(start, lane, 6u),
    value_at(start, lane, 7u),
  );
}
fn lane_fresh(lane: u32) -> Quads {
  return Quads(
    fresh_at(lane, 0u),
    fresh_at(lane, 1u),
    fresh_at(lane, 2u),
    fresh_at(lane, 3u),
    fresh_at(lane, 4u),
    fresh_at(lane, 5u),
    fresh_at(lane, 6u),
    fresh_at(lane, 7u),
  );
}
