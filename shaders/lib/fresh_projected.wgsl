// One token from the residual stream on: its norm and projections before its attention, and after it the projection of what
// came out, in one dispatch. A workgroup is one subgroup and has the heads of one group, whose columns of the last
// projection it leaves as one part of the residual stream. For software adapters and short rows, where a dispatch costs
// more than the rows it reads.
@group(0) @binding(3) var<storage, read_write> keys: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> values: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> turns: array<vec2<f32>>; // [position, half a head] of (cos, sin)
struct Projections {
  qkv_stride: u32,  // of stored rows, in vectors of 16 bytes
  out_stride: u32,
  group_vectors: u32, // what a group of heads has of a row of out
}
@group(0) @binding(12) var<uniform> projections: Projections;
//@slot team
//@slot stream
// Rows of [q heads | k heads | v heads], and of the last projection.
//@again qkv: stored_quads x dtype resident sum bias (RESIDENT)
var<workgroup> out_x: array<vec4<f32>, HEADS * HEAD_QUADS>;
//@again out: stored_quads x dtype resident sum (x RESIDENT)
// The group's q heads, its k and its v.
var<workgroup> projected: array<f32, (HEADS + 2u) * 4u * HEAD_QUADS>;
fn projected_at(head: u32, d: u32) -> f32 {
  var place = head % HEADS;
  if (head >= params.heads) { place = HEADS + (head - params.heads) / params.kv_heads; }
  return projected[place * params.head_dim + d];
}
fn fresh_load(kv: u32, local: u32) {
  // The one subgroup's lanes are in order.
  let at = Lane(local, WORKGROUP, local);
  let norm = stream_begin(at);
  workgroupBarrier();
  qkv_tile_begin(at, 0u);
  for (var place = 0u; place < HEADS + 2u; place++) {
    var head = kv * HEADS + place;
    if (place >= HEADS) { head = params.heads + (place - HEADS) * params.kv_heads + kv; }
    for (var d = 0u; d < params.head_dim; d += WORKGROUP) {
      let first = head * params.head_dim + d;
      let turns = min(WORKGROUP, params.head_dim - d);
      let mine = qkv_tile_sums(at, first, turns, projections.qkv_stride);
      if (local < turns) {
        let row = first + local;
        let scale = norm * qkv_part_scale(row * projections.qkv_stride);
        projected[place * params.head_dim + d + local] = scale * mine + qkv_row_bias(row).x;
      }
    }
  }
  workgroupBarrier();
}
