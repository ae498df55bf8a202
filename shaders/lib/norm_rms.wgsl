// x comes times the norm's weight, but not yet over its root mean square, which every team finds from the residual: a
// dispatch less for each norm, for one more short dot product a team.
@group(0) @binding(8) var<storage, read> residual: array<vec4<f32>>;
fn norm_scale(at: Lane) -> f32 {
  var squares = 0.0;
  for (var v = team_lane(at); v < params.x_stride; v += team_size(at)) { squares += dot(residual[v], residual[v]); }
  return inverseSqrt(team_sum(at, squares) / params.norm_columns + params.norm_eps);
}
