// A team is one lane, which owns whole rows; all lanes of a subgroup are at the same place of their rows, so that they can
// share what they read of x. ROWS is a multiple of WORKGROUP · TILE_ROWS, and WORKGROUP of eight.
struct Lane {
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_invocation_id) lane: u32,
}
const TEAM_LANES: u32 = 1u;
fn team_first(at: Lane) -> u32 { return at.local; }
fn team_step(at: Lane) -> u32 { return WORKGROUP; }
fn team_lane(at: Lane) -> u32 { return 0u; }
fn team_size(at: Lane) -> u32 { return 1u; }
fn team_sum(at: Lane, value: f32) -> f32 { return value; }
fn team_sum_4(at: Lane, value: vec4<f32>) -> vec4<f32> { return value; }
// Sharing wants every lane in every round.
fn team_skips(here: bool) -> bool { return false; }
