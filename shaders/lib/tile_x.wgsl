// x is read as a tile goes: a unit at a time, at a quad's address.
alias TileX = u32;
fn tile_units() -> u32 { return params.dot_units; }
fn tile_x(at: Lane, x_at: u32, v: u32) -> TileX { return x_at + v * QUADS; }
