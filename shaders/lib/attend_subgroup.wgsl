// Each row of lanes scores its share of the positions together, coalesced, and weighs their values at once: no barriers.
// LANES are at most a subgroup's.
enable subgroups;
// All rows of lanes take as many rounds, which the analysis cannot see.
diagnostic(off, subgroup_uniformity);
fn lanes_sum(value: vec4<f32>) -> vec4<f32> {
  var sum = value;
  for (var other = 1u; other < LANES; other *= 2u) { sum += subgroupShuffleXor(sum, other); }
  return sum;
}
fn attend(begun: Mixes, span: Span, local: u32) -> Mixes {
  let lane = local % LANES;
  let q = queries_of(lane);
  var mixes = begun;
  for (var round = 0u; round < span.count; round += 4u * PARTS) {
    let first = round + 4u * (local / LANES);
    let starts = span_starts(span, first);
    let k = Four(lane_key(starts.x, lane), lane_key(starts.y, lane), lane_key(starts.z, lane), lane_key(starts.w, lane));
    mixes = mixes_four(mixes, q, k, values_of(starts, lane), span_here(span, first));
  }
  return mixes;
}
