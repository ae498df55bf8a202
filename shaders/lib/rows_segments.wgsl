// The active rows as put_segment lists them: the first so many places of each segment.
const ABSENT: u32 = 0xffffffffu;
@group(0) @binding(6) var<storage, read> row_list: array<u32>;
fn rows_count() -> u32 { return (params.rows + SEGMENT - 1u) / SEGMENT * SEGMENT; }
fn rows_at(i: u32) -> u32 {
  return select(ABSENT, row_list[i], i % SEGMENT < row_list[rows_count() + i / SEGMENT]);
}
fn rows_out(i: u32) -> u32 { return i; }
fn rows_id(i: u32) -> u32 { return row_list[i]; }
fn rows_keep(id: u32) -> bool { return true; }
fn rows_next(i: u32) -> u32 {
  var at = i;
  while (at < rows_count() && at % SEGMENT >= row_list[rows_count() + at / SEGMENT]) {
    at = (at / SEGMENT + 1u) * SEGMENT;
  }
  return at;
}
