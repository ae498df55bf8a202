// Quads of a head by lane, the lane's k-th LANES after the one before. Places beyond the head stand on its last quad: of
// the query they are zero, and of what is summed they are not put anywhere.
fn lane_place(lane: u32, k: u32) -> u32 { return min(lane + k * LANES, HEAD_QUADS - 1u); }
fn query_at(h: u32, lane: u32, k: u32) -> vec4<f32> {
  return select(vec4<f32>(0.0), query[h * HEAD_QUADS + lane_place(lane, k)], lane + k * LANES < HEAD_QUADS);
}
fn key_at(start: u32, lane: u32, k: u32) -> vec4<f32> { return keys[start + lane_place(lane, k)]; }
fn value_at(start: u32, lane: u32, k: u32) -> vec4<f32> { return values[start + lane_place(lane, k)]; }
fn fresh_at(lane: u32, k: u32) -> vec4<f32> { return fresh_quad(lane_place(lane, k)); }
