// score > threshold.
const RULE_FINDS = false;
fn find_cut(local: u32) -> Cut {
  if (local == 0u) { found[0] = bitcast<u32>(params.value); }
  return Cut(key_of(bitcast<u32>(params.value)), 0u);
}
