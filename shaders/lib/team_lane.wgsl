// A team is one lane: it owns whole rows. Best where lanes are CPU threads' vector lanes and barriers are dear.
struct Lane {
  @builtin(local_invocation_index) local: u32,
}
const TEAM_LANES: u32 = 1u;
fn team_first(at: Lane) -> u32 { return at.local; }
fn team_step(at: Lane) -> u32 { return WORKGROUP; }
fn team_lane(at: Lane) -> u32 { return 0u; }
fn team_size(at: Lane) -> u32 { return 1u; }
fn team_sum(at: Lane, value: f32) -> f32 { return value; }
fn team_sum_4(at: Lane, value: vec4<f32>) -> vec4<f32> { return value; }
// Rows that are not there are passed over; the whole team agrees on which.
fn team_skips(here: bool) -> bool { return !here; }
