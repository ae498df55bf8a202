// A subgroup's sums; lib/team_add_octets.wgsl has them for lavapipe.
fn team_sum(at: Lane, value: f32) -> f32 { return subgroupAdd(value); }
fn team_sum_4(at: Lane, value: vec4<f32>) -> vec4<f32> { return subgroupAdd(value); }
