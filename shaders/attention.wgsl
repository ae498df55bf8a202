// Causal attention of each query over the cache, online softmax over tiles of TILE positions: lanes first score whole
// positions of the tile, then take one quad of the head's dimensions over every PARTS-th position of it.
// Method: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax".
// A cached head is QUADS quads: its dimensions, padded to a multiple of 4. Grid: x = heads; y = batch.
struct Params {
  heads: u32,
  kv_heads: u32,
  head_dim: u32,
  q_stride: u32,   // of q, in f32
  out_stride: u32, // of out, in f32
  scale: f32,
}
struct Step {
  batch: u32,
  position: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;
//@slot fresh

// Lanes side by side on the quads of a head; the workgroup has PARTS such rows of lanes. Both are powers of two.
const PARTS: u32 = WORKGROUP / LANES;
const QUADS_PER_LANE: u32 = (QUADS + LANES - 1u) / LANES;
const NONE: f32 = -3.0e38;
var<workgroup> query: array<vec4<f32>, QUADS>;
var<workgroup> scores: array<f32, TILE>;
var<workgroup> maxima: array<f32, WORKGROUP>;
var<workgroup> sums_of_parts: array<vec4<f32>, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = group.x;
  let b = group.y;
  let dim = params.head_dim;
  let kv_stride = params.kv_heads * QUADS;
  let kv_start = (head / (params.heads / params.kv_heads)) * QUADS;
  let length = cached_length(b);
  let lane = local % LANES;
  let part = local / LANES;
  for (var d = local; d < QUADS; d += WORKGROUP) {
    var quad = vec4<f32>(0.0);
    for (var k = 0u; k < 4u; k++) {
      if (d * 4u + k < dim) { quad[k] = query_at(b, head, d * 4u + k) * params.scale; }
    }
    query[d] = quad;
  }
  fresh_begin(head, local);
  workgroupBarrier();
  // What is not in the cache yet comes first.
  var best = fresh_score();
  var total = 0.0;
  var sums = array<vec4<f32>, QUADS_PER_LANE>();
  if (part == 0u) {
    total = fresh_weight();
    for (var k = 0u; k < QUADS_PER_LANE; k++) { sums[k] = fresh_value_at(lane + k * LANES); }
  }
  for (var tile = 0u; tile < length; tile += TILE) {
    let here = min(TILE, length - tile);
    var most = NONE;
    for (var l = local; l < here; l += WORKGROUP) {
      let start = (tile + l) * kv_stride + kv_start;
      var score = 0.0;
      for (var d = 0u; d < QUADS; d++) { score += dot(query[d], keys[start + d]); }
      scores[l] = score;
      most = max(most, score);
    }
    maxima[local] = most;
    workgroupBarrier();
    var new_best = best;
    for (var l = 0u; l < WORKGROUP; l++) { new_best = max(new_best, maxima[l]); }
    // Each lane weighs its own positions once, so that no exponential is taken twice.
    for (var l = local; l < here; l += WORKGROUP) { scores[l] = exp(scores[l] - new_best); }
    workgroupBarrier();
    let shrink = exp(best - new_best);
    total *= shrink;
    for (var k = 0u; k < QUADS_PER_LANE; k++) { sums[k] *= shrink; }
    for (var l = part; l < here; l += PARTS) {
      let weight = scores[l];
      total += weight;
      let start = (tile + l) * kv_stride + kv_start;
      for (var k = 0u; k < QUADS_PER_LANE; k++) {
        let d = lane + k * LANES;
        if (d < QUADS) { sums[k] += weight * values[start + d]; }
      }
    }
    best = new_best;
    workgroupBarrier();
  }
  // Lanes of one part share their total; the first of each hands it on.
  if (lane == 0u) { maxima[part] = total; }
  workgroupBarrier();
  total = 0.0;
  for (var p = 0u; p < PARTS; p++) { total += maxima[p]; }
  for (var k = 0u; k < QUADS_PER_LANE; k++) {
    sums_of_parts[local] = sums[k];
    workgroupBarrier();
    if (part == 0u) {
      var sum = vec4<f32>(0.0);
      for (var p = 0u; p < PARTS; p++) { sum += sums_of_parts[p * LANES + lane]; }
      sum /= total;
      let d = (lane + k * LANES) * 4u;
      for (var e = 0u; e < 4u; e++) {
        if (d + e < dim) { out[b * params.out_stride + head * dim + d + e] = sum[e]; }
      }
    }
    workgroupBarrier();
  }
}
