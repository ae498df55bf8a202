// slab[to] = source row, for every move of a plan, all fields at once. Blind to dtype: rows are vectors of u32.
// No destination is a source (the planner's promise), so moves run in any order, all at once.
// Bit 31 of a move's source means "a slot of this slab", clear means "a row of the pool".
// STAGED: rows come from a staging buffer instead, that of move n at region[2] + n; moves of pool rows come first.
// region: [moves, active rows m', staged row of move 0, 0, (to, from) ...]; row_list: [m, 0, 0, 0, slot -> row id ...].
// Grid: x, y = moves / ROWS, folded, at least one; workgroups that are too few for the moves take more than one turn, so
// that moves which were counted on the device need no grid of their number.
struct Params {
  vectors: vec4<u32>, // vectors of a row, per field
  shard_base: u32,    // id of the bound shard's first row
  shard_rows: u32,    // rows of the bound shard
  lead: u32,          // 1 in the one dispatch that also keeps row_list
  from_slab: u32,     // 1 in the one dispatch of a field that also moves rows within the slab
}
//@slot vector
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> region: array<u32>;
@group(0) @binding(2) var<storage, read_write> row_list: array<u32>;
//@slot fields

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
  let first = (group.y * groups.x + group.x) * ROWS;
  let leads = params.lead == 1u && local == 0u;
  if (leads && first == 0u) { row_list[0] = region[1]; }
  for (var turn = first; turn < region[0]; turn += groups.x * groups.y * ROWS) {
    for (var r = 0u; r < ROWS; r++) {
      let n = turn + r;
      if (n >= region[0]) { return; }
      let to = region[4u + 2u * n];
      let source = region[5u + 2u * n];
      if ((source >> 31u) == 1u) {
        let slot = source & 0x7fffffffu;
        if (params.from_slab == 1u) { copy_from_slab(to, slot, local); }
        if (leads) { row_list[4u + to] = row_list[4u + slot]; }
      } else {
        let row = select(source - params.shard_base, region[2] + n, STAGED == 1u);
        if (row < params.shard_rows) { copy_from_pool(to, row, local); }
        if (leads) { row_list[4u + to] = source; }
      }
    }
  }
}
