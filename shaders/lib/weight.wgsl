// A stored unit of `weights`, which the kernel binds, widened.
fn weight_quads(part: u32, v: u32) -> Quads { return unit_quads(weights[unit_at(part, v)], part, v); }
