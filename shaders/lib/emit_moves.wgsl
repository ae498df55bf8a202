// region: [moves, m', A, R, (to, source) ...], as copy_rows reads it.
fn moves_at(holes: u32, active_rows: u32) -> u32 { return 4u; }
fn put_stay(rank: u32, slot: u32) {}
fn heading(counts: vec4<u32>) -> vec4<u32> { return counts; }
