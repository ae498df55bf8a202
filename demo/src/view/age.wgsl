// What each slot of a layer has seen, kept on the device from picture to picture: no row id comes to the host for it.
// row_list: [m, 0, 0, 0, slot -> row id ...], as the slab keeps it. list: [m, 0, 0, 0, (slot, row id) ...] of the rows that
// the last step used, for a slab whose rows lie anywhere. state: per slot of all layers (row id + 1, or 0 before the first;
// token at which it was written; token at which it was used; time of the flash, f32 seconds).
struct Params {
  first: u32,    // state of the layer's slot 0
  capacity: u32,
  packed: u32,   // 1: active rows fill slots [0, m)
  rewrites: u32, // 1: every active row is written at every step
  token: u32,    // tokens decoded so far, and one
  time: f32,     // seconds
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> row_list: array<u32>;
@group(0) @binding(2) var<storage, read> list: array<u32>;
@group(0) @binding(3) var<storage, read_write> state: array<vec4u>;

fn see(slot: u32, row: u32, used: bool) {
  var cell = state[params.first + slot];
  let fresh = used && params.rewrites == 1u && cell.z < params.token;
  if (cell.x != row + 1u || fresh) {
    cell.x = row + 1u;
    cell.y = params.token;
    cell.w = bitcast<u32>(params.time);
  }
  if (used) { cell.z = params.token; }
  state[params.first + slot] = cell;
}

// One thread a slot.
@compute @workgroup_size(64)
fn slots(@builtin(global_invocation_id) id: vec3u) {
  let slot = id.x;
  if (slot >= params.capacity) { return; }
  let row = row_list[4u + slot];
  if (params.packed == 1u) {
    if (slot < row_list[0]) { see(slot, row, true); }
  } else if (row != 0u || state[params.first + slot].x != 0u) {
    // Row 0 and an empty slot look the same until the row is used.
    see(slot, row, false);
  }
}

// One thread an active row, where rows lie anywhere.
@compute @workgroup_size(64)
fn active_rows(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= min(list[0], params.capacity)) { return; }
  let slot = list[4u + 2u * id.x];
  if (slot < params.capacity) { see(slot, list[5u + 2u * id.x], true); }
}
