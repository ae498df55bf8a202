// A stored unit, widened.
fn weight_quads(part: u32, v: u32) -> Quads { return unit_quads(stored(unit_at(part, v)), part, v); }
