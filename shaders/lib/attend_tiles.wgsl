// Tiles of TILE positions: lanes first score whole positions, four at a time, and leave the weights for all; then each row
// of lanes weighs the values of its share of them. For one head, and devices without subgroups: a lane's keys lie far from
// its neighbours'.
var<workgroup> scores: array<vec4<f32>, TILE / 4u>;
var<workgroup> maxima: array<f32, WORKGROUP>;
// No row of lanes scores together here.
fn lanes_sum(value: vec4<f32>) -> vec4<f32> { return value; }
fn attend(begun: Mix, span: Span, local: u32) -> Mix {
  let lane = local % LANES;
  let quads = (params.head_dim + 3u) / 4u;
  var best = begun.best;
  var total = begun.total;
  var sums = begun.sums;
  for (var tile = 0u; tile < span.count; tile += TILE) {
    let fours = (min(TILE, span.count - tile) + 3u) / 4u;
    var most = best;
    for (var l = local; l < fours; l += WORKGROUP) {
      let starts = span_starts(span, tile + 4u * l);
      var score = vec4<f32>(0.0);
      for (var d = 0u; d < quads; d++) {
        let q = query[d];
        score += vec4<f32>(
          dot(q, keys[starts.x + d]), dot(q, keys[starts.y + d]), dot(q, keys[starts.z + d]), dot(q, keys[starts.w + d]),
        );
      }
      score = select(vec4<f32>(NONE), score, span_here(span, tile + 4u * l));
      scores[l] = score;
      most = max(most, most_of(score));
    }
    maxima[local] = most;
    workgroupBarrier();
    var new_best = best;
    for (var l = 0u; l < WORKGROUP; l++) { new_best = max(new_best, maxima[l]); }
    // Each lane weighs its own positions once, so that no exponential is taken twice.
    for (var l = local; l < fours; l += WORKGROUP) { scores[l] = exp(scores[l] - new_best); }
    workgroupBarrier();
    let shrink = exp(best - new_best);
    total *= shrink;
    sums = quads_fma(quads_zero(), shrink, sums);
    for (var l = local / LANES; l < fours; l += PARTS) {
      let weights = scores[l];
      total += sum_of(weights);
      sums = mix_values(sums, weights, values_of(span_starts(span, tile + 4u * l), lane));
    }
    best = new_best;
    workgroupBarrier();
  }
  return Mix(best, total, sums);
}
