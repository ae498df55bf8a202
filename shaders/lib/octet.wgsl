// Eight values that the lanes of a subgroup share: each lane reads one (lanes beyond the eighth the same again), and
// has the others by broadcast. Where a load costs as much as some ten operations, and as much at one address for all lanes
// as at many (software adapters), that is an eighth of the loads. Every lane has to take part, which the analysis cannot
// see; subgroups have eight lanes or more.
enable subgroups;
diagnostic(off, subgroup_uniformity);
struct Octet {
  a: vec4<f32>,
  b: vec4<f32>,
}
fn octet_lane(lane: u32) -> u32 { return lane % 8u; }
fn octet_shared(mine: f32) -> Octet {
  return Octet(
    vec4<f32>(
      subgroupBroadcast(mine, 0u), subgroupBroadcast(mine, 1u), subgroupBroadcast(mine, 2u), subgroupBroadcast(mine, 3u),
    ),
    vec4<f32>(
      subgroupBroadcast(mine, 4u), subgroupBroadcast(mine, 5u), subgroupBroadcast(mine, 6u), subgroupBroadcast(mine, 7u),
    ),
  );
}
fn octet_dot(p: Octet, q: Octet) -> f32 { return dot(p.a, q.a) + dot(p.b, q.b); }
