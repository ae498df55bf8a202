// Stored rows in a buffer.
@group(0) @binding(2) var<storage, read> weights: array<Unit>;
fn stored(at: u32) -> Unit { return weights[at]; }
