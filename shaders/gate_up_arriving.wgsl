// gate_up over the slots of a slab for one token, while the slab is brought to its next rows: a row that arrives is
// multiplied on its way to its slot, so that it is read once. No destination is a source (the planner's promise), so rows
// run in any order. out[slot] = act(gate · x) · (up · x); slab[to] = source row; row_list: [m', 0, 0, 0, slot -> row id].
// Grid: x, y = m' / ROWS, folded, at least one. ROWS is a multiple of TILE_ROWS.
//@slot params
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read_write> weights: array<Unit>; // the slab
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(7) var<storage, read_write> row_list: array<u32>;
@group(0) @binding(8) var<storage, read> pool_weights: array<pool_Unit>;
//@slot team
//@slot quads
//@slot x
//@slot dtype
//@slot tile
//@slot rows
//@slot activation
// The same again for rows of the pool.
//@again pool: dtype (stored)
fn stored(at: u32) -> Unit { return weights[at]; }
fn pool_stored(at: u32) -> pool_Unit { return pool_weights[at]; }

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, at: Lane) {
  let first = (group.y * groups.x + group.x) * ROWS;
  let end = min(first + ROWS, rows_count());
  let stay = rows_stay();
  x_begin(at.local);
  if (first == 0u && at.local == 0u) { row_list[0] = rows_count(); }
  for (var i = first + team_first(at) * TILE_ROWS; i < min(end, stay); i += team_step(at) * TILE_ROWS) {
    let gate_parts = tile_parts(at, i, stay);
    let up_parts = gate_parts + Parts(params.part_stride);
    var gate = tile_zero();
    var up = tile_zero();
    for (var v = team_lane(at); v < tile_units(); v += team_size(at)) {
      let q = tile_x(at, 0u, v);
      gate = tile_add(gate, gate_parts, v, q);
      up = tile_add(up, up_parts, v, q);
    }
    gate = tile_total(at, gate);
    up = tile_total(at, up);
    // As in linear: no loop where every row of the tile has its lane.
    if (TEAM_LANES >= TILE_ROWS) {
      put_row(i, team_lane(at), min(end, stay), gate_parts, gate, up);
    } else {
      for (var k = team_lane(at); k < TILE_ROWS; k += team_size(at)) {
        put_row(i, k, min(end, stay), gate_parts, gate, up);
      }
    }
  }
  // Loops over what is not to be done, rather than branches around it: software adapters run both sides of a branch.
  for (var i = max(first, stay) + team_first(at); i < end; i += team_step(at)) {
    let within = i - stay >= moves_from_pool();
    let row = move_at(i - stay);
    let to = row.to * params.row_stride;
    let origin = (row.source & 0x7fffffffu) * params.row_stride;
    var gate = 0.0;
    var up = 0.0;
    for (var v = team_lane(at); v < select(params.dot_units, 0u, within); v += team_size(at)) {
      let q = x_quads(v * QUADS);
      let gate_unit = pool_weights[unit_at(origin, v)];
      let up_unit = pool_weights[unit_at(origin + params.part_stride, v)];
      weights[unit_at(to, v)] = gate_unit;
      weights[unit_at(to + params.part_stride, v)] = up_unit;
      gate += quads_dot(pool_unit_quads(gate_unit, origin, v), q);
      up += quads_dot(pool_unit_quads(up_unit, origin + params.part_stride, v), q);
    }
    for (var v = team_lane(at); v < select(0u, params.dot_units, within); v += team_size(at)) {
      let q = x_quads(v * QUADS);
      let gate_unit = weights[unit_at(origin, v)];
      let up_unit = weights[unit_at(origin + params.part_stride, v)];
      weights[unit_at(to, v)] = gate_unit;
      weights[unit_at(to + params.part_stride, v)] = up_unit;
      gate += quads_dot(unit_quads(gate_unit, origin, v), q);
      up += quads_dot(unit_quads(up_unit, origin + params.part_stride, v), q);
    }
    gate = team_sum(at, gate);
    up = team_sum(at, up);
    // Scales follow the values of each part.
    let units = params.dot_units / params.value_vectors;
    for (var v = params.dot_units + team_lane(at); v < params.part_stride * units; v += team_size(at)) {
      for (var part = 0u; part <= params.part_stride; part += params.part_stride) {
        let source = unit_at(origin + part, v);
        if (within) {
          weights[unit_at(to + part, v)] = weights[source];
        } else {
          weights[unit_at(to + part, v)] = pool_weights[source];
        }
      }
    }
    if (team_lane(at) == 0u) {
      var gate_scale = pool_part_scale(origin);
      var up_scale = pool_part_scale(origin + params.part_stride);
      if (within) {
        gate_scale = part_scale(origin);
        up_scale = part_scale(origin + params.part_stride);
      }
      out[row.to] = activate(gate_scale * gate) * (up_scale * up);
      var id = row.source;
      if (within) { id = row_list[4u + (row.source & 0x7fffffffu)]; }
      row_list[4u + row.to] = id;
    }
  }
}

// Row k of a tile that begins at place i, where it is there.
fn put_row(i: u32, k: u32, end: u32, gate_parts: Parts, gate: Tile, up: Tile) {
  if (k < TILE_ROWS && i + k < end) {
    let gate_part = tile_row(gate_parts, k);
    let scales = vec2<f32>(part_scale(gate_part), part_scale(gate_part + params.part_stride));
    out[rows_at(i + k)] = activate(scales.x * tile_at(gate, k, 0u)) * (scales.y * tile_at(up, k, 0u));
  }
}
