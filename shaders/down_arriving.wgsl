// down over the slots of a slab for one token, while the slab is brought to its next rows: a row that arrives is added to
// the sums on its way to its slot, so that it is read once. No destination is a source (the planner's promise).
// partials[s, c] = sum over split s of the places of a[slot] · D[row, c]; slab[to] = source row.
// Grid: x = units of a row / (WORKGROUP · VECTORS); y = splits of the places [0, m').
//@slot params
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read_write> weights: array<Unit>; // the slab
@group(0) @binding(3) var<storage, read> a: array<f32>;
@group(0) @binding(8) var<storage, read> pool_weights: array<pool_Unit>;
//@slot quads
//@slot dtype
//@slot sums
//@slot rows
//@slot finish
// The same again for rows of the pool.
//@again pool: dtype (stored)
fn stored(at: u32) -> Unit { return weights[at]; }
fn pool_stored(at: u32) -> pool_Unit { return pool_weights[at]; }
//@slot arrive
fn stay(sums: Sums, slot: u32, v: u32) -> Sums {
  let part = slot * params.row_stride;
  return sums_add(sums, part, v, part_scale(part), slot);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
  let lane = group.x * WORKGROUP + local;
  let v = lane * VECTORS;
  if (v >= params.dot_units) { return; }
  var sums = sums_zero();
  let span = span_at(group.y, groups.y);
  // Slots in order, as in down: the runs between destinations stay.
  let first = move_from(span.x);
  var n = first;
  var slot = span.x;
  for (; n < moves_from_pool() && move_at(n).to < span.y; n++) {
    let row = move_at(n);
    for (; slot < row.to; slot++) { sums = stay(sums, slot, v); }
    let origin = row.source * params.row_stride;
    sums = arrive(sums, origin, row.to * params.row_stride, v, a[row.to] * pool_part_scale(origin));
    slot++;
  }
  for (; n < moves_count() && move_at(n).to < span.y; n++) {
    let row = move_at(n);
    for (; slot < row.to; slot++) { sums = stay(sums, slot, v); }
    let origin = (row.source & 0x7fffffffu) * params.row_stride;
    let to = row.to * params.row_stride;
    sums = sums_add(sums, origin, v, part_scale(origin), row.to);
    for (var k = v; k < min(v + VECTORS, params.dot_units); k++) { weights[unit_at(to, k)] = weights[unit_at(origin, k)]; }
    slot++;
  }
  for (; slot < span.y; slot++) { sums = stay(sums, slot, v); }
  // Scales follow the values: the lanes of the columns share them.
  let units = params.dot_units / params.value_vectors;
  let lanes = (params.dot_units + VECTORS - 1u) / VECTORS;
  for (var k = params.dot_units + lane; k < params.row_stride * units; k += lanes) {
    for (var i = first; i < n; i++) {
      let row = move_at(i);
      let source = unit_at((row.source & 0x7fffffffu) * params.row_stride, k);
      let to = unit_at(row.to * params.row_stride, k);
      if (i < moves_from_pool()) { weights[to] = pool_weights[source]; } else { weights[to] = weights[source]; }
    }
  }
  for (var k = 0u; k < VECTORS; k++) {
    let quads = sums_quads(sums, 0u, k);
    for (var q = 0u; q < QUADS; q++) {
      finish(params.first_split + group.y, 0u, (v + k) * QUADS + q, quads_at(quads, q));
    }
  }
}
