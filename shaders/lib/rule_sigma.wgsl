// score > mean + k sigma, sigma the population's. Sums are of differences from the first score: exact when all are equal.
const RULE_FINDS = true;
var<workgroup> parts: array<f32, 2u * WORKGROUP>;
var<workgroup> threshold: f32;
fn total(first: u32) -> f32 {
  var sum = 0.0;
  for (var l = 0u; l < WORKGROUP; l++) { sum += parts[first + l]; }
  return sum;
}
fn find_cut(local: u32) -> Cut {
  let origin = bitcast<f32>(score(0u));
  let n = f32(params.rows);
  var sum = 0.0;
  for (var i = local; i < params.rows; i += WORKGROUP) { sum += bitcast<f32>(score(i)) - origin; }
  parts[local] = sum;
  workgroupBarrier();
  let shift = total(0u) / n;
  var squares = 0.0;
  for (var i = local; i < params.rows; i += WORKGROUP) {
    let off = bitcast<f32>(score(i)) - origin - shift;
    squares += off * off;
  }
  parts[WORKGROUP + local] = squares;
  workgroupBarrier();
  if (local == 0u) { threshold = origin + shift + params.value * sqrt(total(WORKGROUP) / n); }
  // One lane's figure for all, as it is noted.
  let t = bitcast<u32>(workgroupUniformLoad(&threshold));
  if (local == 0u) { found[0] = t; }
  return Cut(key_of(t), 0u);
}
