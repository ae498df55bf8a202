// Active rows wherever they lie in a slab. row_list: [m, 0, 0, 0, (slot, row id) ...].
const ABSENT: u32 = 0xffffffffu;
@group(0) @binding(6) var<storage, read> row_list: array<u32>;
fn rows_count() -> u32 { return row_list[0]; }
fn rows_at(i: u32) -> u32 { return row_list[4u + 2u * i]; }
fn rows_out(i: u32) -> u32 { return i; }
fn rows_id(i: u32) -> u32 { return row_list[5u + 2u * i]; }
