// up over the slots of a slab for one token, while the slab is brought to its next rows, as gate_up_arriving does it, of a
// layer whose gates were computed before. out[slot] = (up · x) · gate[row]; slab[to] = source row;
// row_list: [m', 0, 0, 0, slot -> row id]. No destination is a source (the planner's promise).
// Grid: x, y = slots / ROWS, folded, at least one; what lies beyond m' leaves at once.
//@slot params
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read_write> weights: array<Unit>; // the slab
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<storage, read> gate: array<f32>;
@group(0) @binding(7) var<storage, read_write> row_list: array<u32>;
@group(0) @binding(9) var<storage, read> pool_weights: array<pool_Unit>;
//@slot team
//@slot quads
//@slot x
//@slot dtype
//@slot rows
//@slot norm
// The same again for rows of the pool.
//@again pool: dtype (stored)
fn stored(at: u32) -> Unit { return weights[at]; }
fn pool_stored(at: u32) -> pool_Unit { return pool_weights[at]; }

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, at: Lane) {
  let first = (group.y * groups.x + group.x) * ROWS;
  let end = min(first + ROWS, rows_count());
  let stay = rows_stay();
  if (first == 0u && at.local == 0u) { row_list[0] = rows_count(); }
  if (first >= rows_count()) { return; }
  x_begin(at.local);
  let norm = x_normed(norm_scale(at));
  for (var i = first + team_first(at); i < min(end, stay); i += team_step(at)) {
    let slot = rows_at(i);
    let part = slot * params.row_stride;
    var sum = 0.0;
    for (var v = team_lane(at); v < params.dot_units; v += team_size(at)) {
      sum += quads_dot(unit_quads(weights[unit_at(part, v)], part, v), x_quads(v * QUADS));
    }
    sum = team_sum(at, sum);
    if (team_lane(at) == 0u) { out[slot] = norm * part_scale(part) * sum * gate[row_list[4u + slot]]; }
  }
  // Loops over what is not to be done, rather than branches around it: software adapters run both sides of a branch.
  for (var i = max(first, stay) + team_first(at); i < end; i += team_step(at)) {
    let within = i - stay >= moves_from_pool();
    let row = move_at(i - stay);
    let to = row.to * params.row_stride;
    let slot = row.source & 0x7fffffffu;
    let origin = slot * params.row_stride;
    var sum = 0.0;
    for (var v = team_lane(at); v < select(params.dot_units, 0u, within); v += team_size(at)) {
      let unit = pool_weights[unit_at(origin, v)];
      weights[unit_at(to, v)] = unit;
      sum += quads_dot(pool_unit_quads(unit, origin, v), x_quads(v * QUADS));
    }
    for (var v = team_lane(at); v < select(0u, params.dot_units, within); v += team_size(at)) {
      let unit = weights[unit_at(origin, v)];
      weights[unit_at(to, v)] = unit;
      sum += quads_dot(unit_quads(unit, origin, v), x_quads(v * QUADS));
    }
    sum = team_sum(at, sum);
    // Scales follow the values.
    let units = params.dot_units / params.value_vectors;
    for (var v = params.dot_units + team_lane(at); v < params.row_stride * units; v += team_size(at)) {
      if (within) {
        weights[unit_at(to, v)] = weights[unit_at(origin, v)];
      } else {
        weights[unit_at(to, v)] = pool_weights[unit_at(origin, v)];
      }
    }
    if (team_lane(at) == 0u) {
      var scale = pool_part_scale(origin);
      var id = slot;
      if (within) {
        scale = part_scale(origin);
        id = row_list[4u + slot];
      }
      out[row.to] = norm * scale * sum * gate[id];
      row_list[4u + row.to] = id;
    }
  }
}
