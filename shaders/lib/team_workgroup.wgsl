// A team is the workgroup: coalesced lanes and a tree in shared memory, for GPUs without subgroups.
struct Lane {
  @builtin(local_invocation_index) local: u32,
}
var<workgroup> team_scratch: array<vec4<f32>, WORKGROUP>;
const TEAM_LANES: u32 = WORKGROUP;
fn team_first(at: Lane) -> u32 { return 0u; }
fn team_step(at: Lane) -> u32 { return 1u; }
fn team_lane(at: Lane) -> u32 { return at.local; }
fn team_size(at: Lane) -> u32 { return WORKGROUP; }
fn team_sum(at: Lane, value: f32) -> f32 { return team_sum_4(at, vec4<f32>(value, 0.0, 0.0, 0.0)).x; }
fn team_sum_4(at: Lane, value: vec4<f32>) -> vec4<f32> {
  team_scratch[at.local] = value;
  workgroupBarrier();
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    if (at.local < half) { team_scratch[at.local] += team_scratch[at.local + half]; }
    workgroupBarrier();
  }
  let sum = team_scratch[0];
  workgroupBarrier();
  return sum;
}
// Barriers want every lane in every round.
fn team_skips(here: bool) -> bool { return false; }
