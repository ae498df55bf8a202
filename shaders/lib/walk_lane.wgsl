// Every lane has one contiguous part.
struct Range {
  first: u32,
  end: u32,
  step: u32,
}
fn walk(group: u32, groups: u32, local: u32, count: u32) -> Range {
  let share = (count + groups * WORKGROUP - 1u) / (groups * WORKGROUP);
  let at = group * WORKGROUP + local;
  return Range(at * share, min(count, (at + 1u) * share), 1u);
}
