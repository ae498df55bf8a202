// A row is predicted where the dot product of its signs and the input's exceeds its limit, by XNOR and popcount. Both may
// have more bits than the sign: BITS of the row's weights and INPUT_BITS of x, as levels 2q + 1 - 2^bits for q below
// 2^bits, so that bit p stands for 2^p or -2^p. With a sum over the planes p of one and q of the other,
// dot = sum of 2^(p+q) (columns - 2 · bits that differ); of the columns that are only there to fill words none differs.
// A row's codes: its limit on the sum of 2^(p+q) · bits that differ, as f32, then plane by plane WORDS words.
var<workgroup> x_planes: array<vec4<u32>, WORDS>;
fn plane(q: vec4<u32>, p: u32) -> u32 {
  let bits = (q >> vec4<u32>(p)) & vec4<u32>(1u);
  return bits.x | (bits.y << 1u) | (bits.z << 2u) | (bits.w << 3u);
}
fn predict_begin(local: u32, norm: f32) {
  const LEVELS = 1u << INPUT_BITS;
  for (var w = local; w < WORDS; w += WORKGROUP) {
    var planes = vec4<u32>(0u);
    let here = min(32u, predict.columns - w * 32u);
    for (var v = 0u; v < 8u; v++) {
      let level = floor(x[w * 8u + v] * (norm * predict.scale) + f32(LEVELS / 2u));
      let q = vec4<u32>(clamp(level, vec4<f32>(0.0), vec4<f32>(f32(LEVELS - 1u))));
      planes |= vec4<u32>(plane(q, 0u), plane(q, 1u), plane(q, 2u), plane(q, 3u)) << vec4<u32>(4u * v);
    }
    let there = select((1u << here) - 1u, 0xffffffffu, here == 32u);
    x_planes[w] = planes & vec4<u32>(there);
  }
}
fn differing(codes: vec4<u32>, q: vec4<u32>) -> vec4<u32> {
  var n = countOneBits(codes ^ vec4<u32>(q.x));
  if (INPUT_BITS > 1u) { n += 2u * countOneBits(codes ^ vec4<u32>(q.y)); }
  if (INPUT_BITS > 2u) { n += 4u * countOneBits(codes ^ vec4<u32>(q.z)); }
  if (INPUT_BITS > 3u) { n += 8u * countOneBits(codes ^ vec4<u32>(q.w)); }
  return n;
}
// Word k of the codes of four rows, which is word w of a plane.
fn differing_at(word: u32, codes: vec4<u32>) -> vec4<u32> {
  if (word >= BITS * WORDS) { return vec4<u32>(0u); }
  return differing(codes, x_planes[word % WORDS]) << vec4<u32>(word / WORDS);
}
fn predict_rows(rows: vec4<u32>) -> vec4<bool> {
  var n = vec4<u32>(0u);
  var limits = vec4<f32>(0.0);
  for (var v = 0u; v < VECTORS; v++) {
    let panel = v * params.rows;
    let a = codes[panel + rows.x];
    let b = codes[panel + rows.y];
    let c = codes[panel + rows.z];
    let d = codes[panel + rows.w];
    let firsts = vec4<u32>(a.x, b.x, c.x, d.x);
    if (v == 0u) { limits = bitcast<vec4<f32>>(firsts); } else { n += differing_at(4u * v - 1u, firsts); }
    n += differing_at(4u * v, vec4<u32>(a.y, b.y, c.y, d.y));
    n += differing_at(4u * v + 1u, vec4<u32>(a.z, b.z, c.z, d.z));
    n += differing_at(4u * v + 2u, vec4<u32>(a.w, b.w, c.w, d.w));
  }
  return vec4<f32>(n) < limits;
}
