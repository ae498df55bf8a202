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
// Rows that are not there are passed over; the whole team agrees on which.
fn team_skips(here: bool) -> bool { return !here; }
