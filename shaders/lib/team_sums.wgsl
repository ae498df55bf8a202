// Four sums at once: lane l has that of value[l % 4]. Each shuffle brings what the other half of the lanes will need.
fn team_sums(at: Lane, value: vec4<f32>) -> f32 {
  let second = (at.lane & 1u) == 1u;
  let upper = (at.lane & 2u) == 2u;
  if (OCTETS == 0u || WORKGROUP % 8u != 0u) {
    let sum = subgroupAdd(value);
    let two = select(sum.xy, sum.zw, upper);
    return select(two.x, two.y, second);
  }
  let two = select(value.xy, value.zw, upper) + subgroupShuffleXor(select(value.zw, value.xy, upper), 2u);
  let one = select(two.x, two.y, second) + subgroupShuffleXor(select(two.y, two.x, second), 1u);
  return one + subgroupShuffleXor(one, 4u);
}
