// A whole gated layer for one token, in one dispatch: norm, act(G · x) of all rows, and of each row whose size exceeds the
// threshold (0: exact) at once U · x and its share of D. A workgroup is one subgroup and claims runs of the rows; x
// stays in its lanes' registers, and so do the sums of a run's columns, which it leaves as one part of the residual stream:
// the parts, and so the sums, are the same whoever has which. For software adapters and short rows, where a dispatch costs
// more than the rows it reads: no list, no second pass.
// Grid: x = RUNS, or fewer.
//@slot params
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(6) var<storage, read_write> counts: array<u32>; // active rows of each run
@group(0) @binding(7) var<storage, read> down_bias: array<vec4<f32>>;
@group(0) @binding(16) var<storage, read_write> stream_out: array<vec4<f32>>; // a part a run
//@slot team
//@slot work
//@slot stream
//@slot quads
//@slot x
//@slot dtype
//@slot resident
//@slot sum
//@slot activation
// The same again for the rows of U and of D.
//@again up: dtype sum
//@again down: dtype
// Not "above": a NaN stays active, and shows.
fn keeps(gate: f32) -> bool { return !(abs(gate) <= params.threshold); }
var<private> y0: Quads;
var<private> y1: Quads;
var<private> y2: Quads;
var<private> y3: Quads;
var<private> y4: Quads;
var<private> y5: Quads;
var<private> y6: Quads;
var<private> y7: Quads;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, at: Lane) {
  var run = work_first(group.x, groups.x, at, RUNS);
  if (run >= RUNS) { return; }
  let norm = stream_begin(at);
  workgroupBarrier();
  tile_begin(at, 0u);
  while (run < RUNS) {
    add_run(at, run, norm);
    run = work_next(groups.x, at, RUNS);
  }
}

fn add_run(at: Lane, run: u32, norm: f32) {
  let lane = team_lane(at);
  let step = team_size(at);
  let share = (params.rows + RUNS - 1u) / RUNS;
  let end = min(params.rows, (run + 1u) * share);
  var active_rows = 0u;
  y0 = quads_zero();
  y1 = y0;
  y2 = y0;
  y3 = y0;
  y4 = y0;
  y5 = y0;
  y6 = y0;
  y7 = y0;
  for (var first = run * share; first < end; first += step) {
    let turns = min(step, end - first);
    let mine = tile_sums(at, first, turns, params.row_stride);
    let own = min(first + lane, end - 1u) * params.row_stride;
    let gates = activate(norm * part_scale(own) * mine);
    var kept = subgroupBallot(lane < turns && keeps(gates)).x;
    active_rows += countOneBits(kept);
    while (kept != 0u) {
      let k = countTrailingZeros(kept);
      kept &= kept - 1u;
      let part = (first + k) * params.row_stride;
      let up = norm * up_part_scale(part) * up_tile_sum(at, part, 0u);
      let a = subgroupShuffle(gates, k) * up * down_part_scale(part);
      y0 = quads_fma(y0, a, down_weight_quads(part, lane));
      if (RESIDENT > 1u) { y1 = quads_fma(y1, a, down_weight_quads(part, lane + step)); }
      if (RESIDENT > 2u) { y2 = quads_fma(y2, a, down_weight_quads(part, lane + 2u * step)); }
      if (RESIDENT > 3u) { y3 = quads_fma(y3, a, down_weight_quads(part, lane + 3u * step)); }
      if (RESIDENT > 4u) { y4 = quads_fma(y4, a, down_weight_quads(part, lane + 4u * step)); }
      if (RESIDENT > 5u) { y5 = quads_fma(y5, a, down_weight_quads(part, lane + 5u * step)); }
      if (RESIDENT > 6u) { y6 = quads_fma(y6, a, down_weight_quads(part, lane + 6u * step)); }
      if (RESIDENT > 7u) { y7 = quads_fma(y7, a, down_weight_quads(part, lane + 7u * step)); }
    }
  }
  if (lane == 0u) { counts[run] = active_rows; }
  put(run, lane, y0);
  if (RESIDENT > 1u) { put(run, lane + step, y1); }
  if (RESIDENT > 2u) { put(run, lane + 2u * step, y2); }
  if (RESIDENT > 3u) { put(run, lane + 3u * step, y3); }
  if (RESIDENT > 4u) { put(run, lane + 4u * step, y4); }
  if (RESIDENT > 5u) { put(run, lane + 5u * step, y5); }
  if (RESIDENT > 6u) { put(run, lane + 6u * step, y6); }
  if (RESIDENT > 7u) { put(run, lane + 7u * step, y7); }
}

// The sums of one unit's columns; the first run's have the stream and the bias.
fn put(run: u32, unit: u32, sums: Quads) {
  for (var q = 0u; q < QUADS; q++) {
    let v = unit * QUADS + q;
    var sum = quads_at(sums, q);
    if (run == 0u) { sum += stream_at(v) + down_bias[v]; }
    stream_out[run * stream.stride + v] = sum;
  }
}
