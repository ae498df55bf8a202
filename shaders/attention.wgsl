// Causal attention of each query over the cache, by online softmax. A workgroup has HEADS heads of one query, which share
// their keys and values, and a span of the positions, four of which it takes at a time: lanes stand side by side on the
// quads of a head, and the workgroup has PARTS such rows of lanes, whose sums are put together at the end.
// Method: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"; for spans: Dao et al. 2023,
// "Flash-Decoding for long-context inference".
// A cached head is HEAD_QUADS quads: its dimensions, padded to a multiple of 4.
// Grid: x = heads / HEADS; y = batch; z = spans.
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
//@slot fresh

// Lanes of a row and of the workgroup are powers of two.
const PARTS: u32 = WORKGROUP / LANES;
const NONE: f32 = -3.0e38;
var<workgroup> query: array<vec4<f32>, HEADS * HEAD_QUADS>;
//@slot quads
//@slot lane

// Positions of the cache: where the first begins in keys and values, and from one to the next, in quads.
struct Span {
  start: u32,
  stride: u32,
  count: u32,
}
// Four positions; those beyond the span stand on its last, and count nothing.
fn span_starts(span: Span, first: u32) -> vec4<u32> {
  return span.start + span.stride * min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(span.count - 1u));
}
fn span_here(span: Span, first: u32) -> vec4<bool> {
  return vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(span.count);
}
fn most_of(v: vec4<f32>) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
fn sum_of(v: vec4<f32>) -> f32 { return (v.x + v.y) + (v.z + v.w); }

// Values of a head that were weighed by exp(score - best), and the weights' total.
struct Mix {
  best: f32,
  total: f32,
  sums: Quads,
}
// What is not in the cache yet comes first; the first row of lanes of the first span has it.
fn mix_begun(h: u32, span: u32, local: u32) -> Mix {
  if (span > 0u) { return Mix(NONE, 0.0, quads_zero()); }
  let score = fresh_score(h);
  if (local >= LANES) { return Mix(score, 0.0, quads_zero()); }
  return Mix(score, fresh_weight(), lane_fresh(local));
}
// The values of four positions.
struct Four {
  a: Quads,
  b: Quads,
  c: Quads,
  d: Quads,
}
fn values_of(starts: vec4<u32>, lane: u32) -> Four {
  return Four(
    lane_value(starts.x, lane), lane_value(starts.y, lane), lane_value(starts.z, lane), lane_value(starts.w, lane),
  );
}
fn mix_values(sums: Quads, weights: vec4<f32>, values: Four) -> Quads {
  let two = quads_fma(quads_fma(sums, weights.x, values.a), weights.y, values.b);
  return quads_fma(quads_fma(two, weights.z, values.c), weights.w, values.d);
}
// Four more positions of a head, scored by a row of lanes together.
fn mix_four(m: Mix, q: Quads, keys: Four, values: Four, here: vec4<bool>) -> Mix {
  let score = lanes_sum(
    vec4<f32>(quads_dot(q, keys.a), quads_dot(q, keys.b), quads_dot(q, keys.c), quads_dot(q, keys.d)),
  );
  let best = max(m.best, most_of(select(vec4<f32>(NONE), score, here)));
  // Of a row of lanes without a position, NONE is the best.
  let weights = select(vec4<f32>(0.0), exp(score - best), here);
  let shrink = exp(m.best - best);
  let sums = mix_values(quads_fma(quads_zero(), shrink, m.sums), weights, values);
  return Mix(best, m.total * shrink + sum_of(weights), sums);
}
//@slot heads
//@slot walk
//@slot finish

var<workgroup> part_bests: array<f32, PARTS>;
var<workgroup> part_totals: array<f32, PARTS>;
var<workgroup> part_sums: array<vec4<f32>, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
  let head = group.x * HEADS;
  let kv = head / (params.heads / params.kv_heads);
  let length = cached_length(group.y);
  let each = 4u * ((length + 4u * groups.z - 1u) / (4u * groups.z));
  let first = min(group.z * each, length);
  let lane = local % LANES;
  let part = local / LANES;
  fresh_load(kv, local);
  // By the head's true size: a loop of a constant's length is unrolled, and these are long to compile and short to run.
  let quads = (params.head_dim + 3u) / 4u;
  for (var i = local; i < HEADS * quads; i += WORKGROUP) {
    query[i] = params.scale * query_quad(group.y, head + i / quads, 4u * (i % quads));
  }
  fresh_begin(kv, quads, local, head % (params.heads / params.kv_heads) == 0u && group.z == 0u);
  workgroupBarrier();
  let stride = params.kv_heads * HEAD_QUADS;
  let span = Span(first * stride + kv * HEAD_QUADS, stride, min(each, length - first));
  let mixes = attend(mixes_begun(group.z, local), span, local);
  for (var h = 0u; h < HEADS; h++) {
    let mixed = mixes_at(mixes, h);
    if (PARTS == 1u) {
      for (var k = 0u; k < QUADS; k++) {
        finish(group.y, head + h, group.z, groups.z, lane + k * LANES, mixed.best, mixed.total, quads_at(mixed.sums, k));
      }
    } else {
      if (lane == 0u) {
        part_bests[part] = mixed.best;
        part_totals[part] = mixed.total;
      }
      workgroupBarrier();
      var best = NONE;
      for (var p = 0u; p < PARTS; p++) { best = max(best, part_bests[p]); }
      var total = 0.0;
      for (var p = 0u; p < PARTS; p++) { total += exp(part_bests[p] - best) * part_totals[p]; }
      let shrink = exp(mixed.best - best);
      for (var k = 0u; k < QUADS; k++) {
        part_sums[local] = shrink * quads_at(mixed.sums, k);
        workgroupBarrier();
        if (part == 0u) {
          var sum = vec4<f32>(0.0);
          for (var p = 0u; p < PARTS; p++) { sum += part_sums[p * LANES + lane]; }
          finish(group.y, head + h, group.z, groups.z, lane + k * LANES, best, total, sum);
        }
        workgroupBarrier();
      }
    }
  }
  finish_all(kv, local);
}
