@group(0) @binding(1) var<storage, read> mask: array<u32>;
fn active_word(w: u32) -> u32 { return mask[w]; }
