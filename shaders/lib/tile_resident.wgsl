// One row at a time, against an x that stays in registers (resident_x, resident_sum).
const TILE_ROWS: u32 = 1u;
const BATCH_TILE: u32 = 1u;
alias Parts = u32;
alias Tile = f32;
fn tile_parts(at: Lane, i: u32, count: u32) -> Parts { return tile_part(i, count); }
fn tile_row(parts: Parts, r: u32) -> u32 { return parts; }
fn tile_at(sum: Tile, r: u32, b: u32) -> f32 { return sum; }
