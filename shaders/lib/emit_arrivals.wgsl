// region: [S, P, m', 0, the S slots that stay ..., the moves (to, source) ...], as lib/rows_arriving.wgsl reads it.
fn moves_at(holes: u32, active_rows: u32) -> u32 { return 4u + active_rows - holes; }
fn put_stay(rank: u32, slot: u32) { region[4u + rank] = slot; }
fn heading(counts: vec4<u32>) -> vec4<u32> { return vec4<u32>(counts.y - counts.x, counts.z, counts.y, 0u); }
