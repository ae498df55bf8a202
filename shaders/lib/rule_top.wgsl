// The k highest: the k-th highest key is found eight bits at a time, from the top, by counting those that share what is
// found so far.
const RULE_FINDS = false;
var<workgroup> bins: array<atomic<u32>, 256>;
var<workgroup> chosen: vec2<u32>;
fn find_cut(local: u32) -> Cut {
  var prefix = 0u;
  var known = 0u; // the bits of prefix that are found
  var left = params.count;
  for (var shift = 24i; shift >= 0i; shift -= 8i) {
    for (var b = local; b < 256u; b += WORKGROUP) { atomicStore(&bins[b], 0u); }
    workgroupBarrier();
    for (var i = local; i < params.rows; i += WORKGROUP) {
      let key = key_of(score(i));
      if ((key & known) == prefix) { atomicAdd(&bins[(key >> u32(shift)) & 255u], 1u); }
    }
    workgroupBarrier();
    if (local == 0u) {
      var b = 255u;
      var rest = left;
      loop {
        let count = atomicLoad(&bins[b]);
        if (count >= rest || b == 0u) { break; }
        rest -= count;
        b--;
      }
      chosen = vec2<u32>(b, rest);
    }
    let found_here = workgroupUniformLoad(&chosen);
    prefix |= found_here.x << u32(shift);
    known |= 255u << u32(shift);
    left = found_here.y;
  }
  // The k-th highest score itself; without one (k = 0) a NaN.
  if (local == 0u) { found[0] = select(~prefix, prefix & 0x7fffffffu, (prefix >> 31u) == 1u); }
  return Cut(prefix, left);
}
