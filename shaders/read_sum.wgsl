// out[lane] = sum of the elements of `data` that the lane reads: the read ceiling. Every byte is read once and used
// once, by an addition, so that nothing can be left out; what is written is four bytes a lane.
// Which element is whose (walk), and where the elements lie and how wide a load is (element) are the open places.
// Grid: x = workgroups, any number.
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
//@slot element
//@slot walk

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
  let range = walk(group.x, groups.x, local, elements());
  var sum = sum_zero();
  for (var i = range.first; i < range.end; i += range.step) { sum = sum_add(sum, i); }
  out[group.x * WORKGROUP + local] = sum_total(sum);
}
