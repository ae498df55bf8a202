// One batch element at a time. No arrays: software adapters keep arrays in memory, not in registers.
const BATCH_TILE: u32 = 1u;
alias Tile = f32;
fn tile_zero() -> Tile { return 0.0; }
fn tile_dot(sum: Tile, w: vec4<f32>, at: u32) -> Tile { return sum + dot(w, x[at]); }
fn tile_total(at: Lane, sum: Tile) -> Tile { return team_sum(at, sum); }
fn tile_at(sum: Tile, b: u32) -> f32 { return sum; }
