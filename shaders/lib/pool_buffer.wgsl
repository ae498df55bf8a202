// The pool's rows in a buffer.
@group(0) @binding(3) var<storage, read> pool0: array<Vector>;
fn pool0_at(i: u32) -> Vector { return pool0[i]; }
