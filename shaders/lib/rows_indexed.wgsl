// Rows of the pool through a list of ids (same layout as rows_packed); rows of other shards are ABSENT here.
const ABSENT: u32 = 0xffffffffu;
@group(0) @binding(6) var<storage, read> row_list: array<u32>;
fn rows_count() -> u32 { return row_list[0]; }
fn rows_at(i: u32) -> u32 {
  let local = row_list[4u + i] - params.row_base;
  return select(ABSENT, local, local < params.rows);
}
fn rows_out(i: u32) -> u32 { return i; }
fn rows_id(i: u32) -> u32 { return row_list[4u + i]; }
