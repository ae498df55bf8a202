// A workgroup has one contiguous part, over which its lanes stride.
struct Range {
  first: u32,
  end: u32,
  step: u32,
}
fn walk(group: u32, groups: u32, local: u32, count: u32) -> Range {
  let share = (count + groups - 1u) / groups;
  return Range(group * share + local, min(count, (group + 1u) * share), WORKGROUP);
}
