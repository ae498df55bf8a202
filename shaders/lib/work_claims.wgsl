// ROWS rows at a time, as a workgroup of one subgroup comes to them. For software adapters, which give each thread its
// workgroups beforehand: so one that wakes up 90 µs after the others, or is held up, leaves rows to them.
// Each workgroup draws numbers until one lies beyond the rows, so that a dispatch draws as many as there are pieces and
// workgroups. The last of them sets the counter back for the next: nobody draws after it.
@group(0) @binding(17) var<storage, read_write> claims: atomic<u32>;
var<workgroup> work_claimed: u32;
fn work_claim(groups: u32, count: u32) -> u32 {
  let drawn = atomicAdd(&claims, 1u);
  if (drawn + 1u == (count + ROWS - 1u) / ROWS + groups) { atomicStore(&claims, 0u); }
  return drawn * ROWS;
}
// The same for all lanes as the analysis sees it, too, since barriers follow; they are dear, so that the next is not.
fn work_first(group: u32, groups: u32, at: Lane, count: u32) -> u32 {
  if (at.local == 0u) { work_claimed = work_claim(groups, count); }
  return workgroupUniformLoad(&work_claimed);
}
fn work_next(groups: u32, at: Lane, count: u32) -> u32 {
  var first = 0u;
  if (at.local == 0u) { first = work_claim(groups, count); }
  return subgroupBroadcastFirst(first);
}
