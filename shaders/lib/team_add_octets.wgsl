// Lavapipe adds lane by lane, which takes four times as long as three shuffles: 75 and 18 ns.
fn team_sum(at: Lane, value: f32) -> f32 {
  if (OCTETS == 0u || WORKGROUP % 8u != 0u) { return subgroupAdd(value); }
  var sum = value + subgroupShuffleXor(value, 1u);
  sum += subgroupShuffleXor(sum, 2u);
  return sum + subgroupShuffleXor(sum, 4u);
}
fn team_sum_4(at: Lane, value: vec4<f32>) -> vec4<f32> {
  if (OCTETS == 0u || WORKGROUP % 8u != 0u) { return subgroupAdd(value); }
  var sum = value + subgroupShuffleXor(value, 1u);
  sum += subgroupShuffleXor(sum, 2u);
  return sum + subgroupShuffleXor(sum, 4u);
}
