// The active rows as gate_up_active leaves them: [a count for each segment of SEGMENT rows, then the ids of each segment's
// active rows, from the segment's own start]. What belongs to them stands at the same places.
const ABSENT: u32 = 0xffffffffu;
@group(0) @binding(6) var<storage, read> row_list: array<u32>;
fn segments() -> u32 { return (params.rows + SEGMENT - 1u) / SEGMENT; }
fn rows_at(i: u32) -> u32 { return row_list[segments() + i]; }
fn rows_out(i: u32) -> u32 { return i; }
// The places of one split: the runs at the beginning of its segments.
fn spans_of(split: u32, splits: u32) -> vec2<u32> {
  let share = (segments() + splits - 1u) / splits;
  return vec2<u32>(min(segments(), split * share), min(segments(), (split + 1u) * share));
}
fn span_at(span: u32, splits: u32) -> vec2<u32> { return vec2<u32>(span * SEGMENT, span * SEGMENT + row_list[span]); }
