// A team is one subgroup: consecutive lanes read consecutive vectors of one row.
enable subgroups;
// Rows are dealt out by subgroup, so control flow is uniform within each one, which the analysis cannot see.
diagnostic(off, subgroup_uniformity);
struct Lane {
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_size) size: u32,
  @builtin(subgroup_invocation_id) lane: u32,
}
// SUBGROUP is the least that the adapter has. What follows from it alone is worth a tenth on software adapters.
const TEAM_LANES: u32 = min(SUBGROUP, WORKGROUP);
// Lanes of a one-dimensional workgroup are dealt to subgroups in order on every adapter we know of (tested on each).
fn team_first(at: Lane) -> u32 { return select(at.local / at.size, 0u, WORKGROUP <= SUBGROUP); }
fn team_step(at: Lane) -> u32 { return select(max(1u, WORKGROUP / at.size), 1u, WORKGROUP <= SUBGROUP); }
fn team_lane(at: Lane) -> u32 { return at.lane; }
// A workgroup smaller than a subgroup has only its own lanes.
fn team_size(at: Lane) -> u32 { return min(at.size, WORKGROUP); }
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
// Rows that are not there are passed over; the whole team agrees on which.
fn team_skips(here: bool) -> bool { return !here; }
