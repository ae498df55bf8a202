// Causal attention of each query over the cache, online softmax over tiles of WORKGROUP positions: each lane scores
// one position of the tile, then owns every WORKGROUP-th dimension of the head. One workgroup a head and query.
// Method: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax". Grid: x = heads; y = batch.
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
@group(0) @binding(2) var<storage, read> q: array<f32>;
@group(0) @binding(3) var<storage, read> keys: array<f32>;
@group(0) @binding(4) var<storage, read> values: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;
var<workgroup> scores: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = group.x;
  let b = group.y;
  let dim = params.head_dim;
  let kv_stride = params.kv_heads * dim;
  let kv_start = (head / (params.heads / params.kv_heads)) * dim;
  let q_start = b * params.q_stride + head * dim;
  let length = step.position + b + 1u;
  var best = -3.0e38;
  var total = 0.0;
  var sums: array<f32, DIMS_PER_LANE>;
  for (var tile = 0u; tile < length; tile += WORKGROUP) {
    let position = tile + local;
    var score = -3.0e38;
    if (position < length) {
      score = 0.0;
      for (var d = 0u; d < dim; d++) { score += q[q_start + d] * keys[position * kv_stride + kv_start + d]; }
      score *= params.scale;
    }
    scores[local] = score;
    workgroupBarrier();
    let here = min(WORKGROUP, length - tile);
    var new_best = best;
    for (var l = 0u; l < here; l++) { new_best = max(new_best, scores[l]); }
    let shrink = exp(best - new_best);
    // Each lane weighs its own position once; without this every lane would take every exponential.
    let mine = select(0.0, exp(score - new_best), position < length);
    workgroupBarrier();
    scores[local] = mine;
    workgroupBarrier();
    total *= shrink;
    for (var k = 0u; k < DIMS_PER_LANE; k++) { sums[k] *= shrink; }
    for (var l = 0u; l < here; l++) {
      let weight = scores[l];
      total += weight;
      let at = (tile + l) * kv_stride + kv_start + local;
      for (var k = 0u; k < DIMS_PER_LANE; k++) {
        if (local + k * WORKGROUP < dim) { sums[k] += weight * values[at + k * WORKGROUP]; }
      }
    }
    best = new_best;
    workgroupBarrier();
  }
  for (var k = 0u; k < DIMS_PER_LANE; k++) {
    let d = local + k * WORKGROUP;
    if (d < dim) { out[b * params.out_stride + head * dim + d] = sums[k] / total; }
  }
}
