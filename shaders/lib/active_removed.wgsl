// Rows that are held and no longer wanted: old & ~new.
@group(0) @binding(1) var<storage, read> mask: array<u32>;
@group(0) @binding(3) var<storage, read> old_mask: array<u32>;
fn active_word(w: u32) -> u32 { return old_mask[w] & ~mask[w]; }
