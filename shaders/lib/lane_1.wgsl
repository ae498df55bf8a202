// The quads of a head that one lane has: one, LANES apart.
fn lane_query(h: u32, lane: u32) -> Quads { return Quads(query_at(h, lane, 0u)); }
fn lane_key(start: u32, lane: u32) -> Quads { return Quads(key_at(start, lane, 0u)); }
fn lane_value(start: u32, lane: u32) -> Quads { return Quads(value_at(start, lane, 0u)); }
fn lane_fresh(lane: u32) -> Quads { return Quads(fresh_at(lane, 0u)); }
