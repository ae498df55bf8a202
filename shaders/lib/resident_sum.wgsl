// A row against such an x: as many units for each lane, no more and no less. For short rows; where a load costs more than
// arithmetic (software adapters) a fifth faster than reading x again for every four rows.
fn tile_sum(at: Lane, parts: u32, x_at: u32) -> f32 {
  let lane = team_lane(at);
  let step = team_size(at);
  var sum = quads_dot(weight_quads(parts, lane), x0);
  if (RESIDENT > 1u) { sum += quads_dot(weight_quads(parts, lane + step), x1); }
  if (RESIDENT > 2u) { sum += quads_dot(weight_quads(parts, lane + 2u * step), x2); }
  if (RESIDENT > 3u) { sum += quads_dot(weight_quads(parts, lane + 3u * step), x3); }
  if (RESIDENT > 4u) { sum += quads_dot(weight_quads(parts, lane + 4u * step), x4); }
  if (RESIDENT > 5u) { sum += quads_dot(weight_quads(parts, lane + 5u * step), x5); }
  if (RESIDENT > 6u) { sum += quads_dot(weight_quads(parts, lane + 6u * step), x6); }
  if (RESIDENT > 7u) { sum += quads_dot(weight_quads(parts, lane + 7u * step), x7); }
  return team_sum(at, sum);
}
