// The whole grid strides over the buffer: neighbouring lanes read neighbouring elements.
struct Range {
  first: u32,
  end: u32,
  step: u32,
}
fn walk(group: u32, groups: u32, local: u32, count: u32) -> Range {
  return Range(group * WORKGROUP + local, count, groups * WORKGROUP);
}
