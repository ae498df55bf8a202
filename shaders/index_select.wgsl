// slab[i] = pool[ids[i]] for every id of a list: the gather that packs the whole active block again.
// ids: [count, 0, 0, 0, row ids ...]; row_list: [m, 0, 0, 0, slot -> row id ...] becomes the same list.
// Grid: x, y = count / ROWS, folded, at least one.
struct Params {
  vectors: vec4<u32>, // vectors of a row, per field
  shard_base: u32,    // id of the bound shard's first row
  shard_rows: u32,    // rows of the bound shard
  lead: u32,          // 1 in the one dispatch that also keeps row_list
  capacity: u32,      // slots; ids beyond are not written
}
//@slot vector
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> row_list: array<u32>;
//@slot fields

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
  let first = (group.y * groups.x + group.x) * ROWS;
  let leads = params.lead == 1u && local == 0u;
  let count = min(ids[0], params.capacity);
  if (leads && first == 0u) { row_list[0] = count; }
  for (var r = 0u; r < ROWS; r++) {
    let i = first + r;
    if (i >= count) { return; }
    let id = ids[4u + i];
    let row = id - params.shard_base;
    if (row < params.shard_rows) { copy_from_pool(i, row, local); }
    if (leads) { row_list[4u + i] = id; }
  }
}
