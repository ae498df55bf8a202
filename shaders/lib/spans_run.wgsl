// The places of one split: one run.
fn spans_of(split: u32, splits: u32) -> vec2<u32> { return vec2<u32>(split, split + 1u); }
fn span_at(span: u32, splits: u32) -> vec2<u32> {
  let count = rows_count();
  let share = (count + splits - 1u) / splits;
  return vec2<u32>(min(count, span * share), min(count, (span + 1u) * share));
}
