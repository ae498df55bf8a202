@group(0) @binding(1) var<storage, read> mask: array<u32>;
fn active_word(w: u32) -> u32 { return mask[w]; }
fn is_active(row: u32) -> bool { return ((mask[row / 32u] >> (row % 32u)) & 1u) == 1u; }
