// Of fresh_projected: the heads' outputs meet the last projection's columns that are theirs.
@group(0) @binding(16) var<storage, read_write> stream_out: array<vec4<f32>>; // a part a workgroup
fn finish(b: u32, head: u32, span: u32, spans: u32, quad: u32, best: f32, total: f32, sum: vec4<f32>) {
  if (quad < HEAD_QUADS) { out_x[(head % HEADS) * HEAD_QUADS + quad] = sum / total; }
}
fn out_sum(at: Lane, row: u32, kv: u32) -> f32 {
  let part = min(row, 4u * stream.stride - 1u) * projections.out_stride + kv * projections.group_vectors;
  return out_part_scale(part) * out_tile_sum(at, part, 0u);
}
// Every lane keeps the quad that it is to put.
fn finish_all(kv: u32, local: u32) {
  let at = Lane(local, WORKGROUP, local);
  workgroupBarrier();
  out_tile_begin(at, 0u);
  for (var first = 0u; first < stream.stride; first += WORKGROUP) {
    var mine = vec4<f32>(0.0);
    for (var k = 0u; k < WORKGROUP; k++) {
      let row = 4u * (first + k);
      let sums = vec4<f32>(out_sum(at, row, kv), out_sum(at, row + 1u, kv), out_sum(at, row + 2u, kv), out_sum(at, row + 3u, kv));
      mine = select(mine, sums, k == local);
    }
    let v = first + local;
    if (v < stream.stride) {
      if (kv == 0u) { mine += stream_at(v); }
      stream_out[kv * stream.stride + v] = mine;
    }
  }
}
