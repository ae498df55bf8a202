// Every row of this shard, in order.
const ABSENT: u32 = 0xffffffffu;
fn rows_count() -> u32 { return params.rows; }
fn rows_at(i: u32) -> u32 { return i; }
fn rows_out(i: u32) -> u32 { return params.row_base + i; }
fn rows_id(i: u32) -> u32 { return params.row_base + i; }
