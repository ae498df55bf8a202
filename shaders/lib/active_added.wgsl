// Rows that are wanted and not held: new & ~old.
@group(0) @binding(1) var<storage, read> mask: array<u32>;
@group(0) @binding(3) var<storage, read> old_mask: array<u32>;
fn active_word(w: u32) -> u32 { return mask[w] & ~old_mask[w]; }
