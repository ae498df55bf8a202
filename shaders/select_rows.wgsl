// mask = the rows whose scores stand out, by a rule: above a threshold; above mean + k sigma; the k highest, of equal
// ones the lowest ids. One workgroup.
// Scores are read and compared as keys, u32 that are ordered as the numbers are: a NaN is seen whatever the compiler
// assumes, and no score is flushed to zero. A NaN or an infinity among them: the mask is empty, and found says so, for
// good (the host clears it).
struct Params {
  rows: u32,
  count: u32, // of the k highest
  value: f32, // threshold, or k of k sigma
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> scores: array<u32>; // bits of f32
@group(0) @binding(2) var<storage, read_write> mask: array<u32>;
// [threshold as f32, 1 once scores or threshold were not finite, rows selected, 0]
@group(0) @binding(3) var<storage, read_write> found: array<u32>;
const INFINITE = 0x7f800000u;
var<workgroup> tallies: array<u32, WORKGROUP>;
var<workgroup> spoilt: array<u32, WORKGROUP>;
var<workgroup> selected: atomic<u32>;

// What a rule comes to: selected are the scores above `key`, and the first `ties` of those equal to it.
struct Cut {
  key: u32,
  ties: u32,
}
// With ABSOLUTE their sizes count.
fn score(i: u32) -> u32 { return select(scores[i], scores[i] & 0x7fffffffu, ABSOLUTE == 1u); }
fn key_of(bits: u32) -> u32 {
  let one_zero = select(bits, 0u, bits == 0x80000000u);
  return select(one_zero | 0x80000000u, ~one_zero, (one_zero >> 31u) == 1u);
}
fn not_finite(bits: u32) -> bool { return (bits & 0x7fffffffu) >= INFINITE; }
//@slot rule

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) local: u32) {
  var bad = 0u;
  for (var i = local; i < params.rows; i += WORKGROUP) { bad |= u32(not_finite(score(i))); }
  let cut = find_cut(local);
  let words = (params.rows + 31u) / 32u;
  let share = (words + WORKGROUP - 1u) / WORKGROUP;
  let begin = min(words, local * share);
  let end = min(words, begin + share);
  var ties = 0u;
  if (cut.ties > 0u) {
    for (var i = begin * 32u; i < min(params.rows, end * 32u); i++) { ties += u32(key_of(score(i)) == cut.key); }
  }
  tallies[local] = ties;
  // Lane 0 noted the threshold itself.
  spoilt[local] = bad | u32(RULE_FINDS && local == 0u && not_finite(found[0]));
  if (local == 0u) { atomicStore(&selected, 0u); }
  workgroupBarrier();
  ties = 0u;
  for (var l = 0u; l < WORKGROUP; l++) {
    bad |= spoilt[l];
    ties += select(0u, tallies[l], l < local);
  }
  var mine = 0u;
  for (var w = begin; w < end; w++) {
    var bits = 0u;
    for (var i = w * 32u; i < min(params.rows, w * 32u + 32u); i++) {
      let key = key_of(score(i));
      let tie = key == cut.key;
      bits |= u32(key > cut.key || (tie && ties < cut.ties)) << (i % 32u);
      ties += u32(tie);
    }
    bits = select(bits, 0u, bad != 0u);
    mask[w] = bits;
    mine += countOneBits(bits);
  }
  atomicAdd(&selected, mine);
  workgroupBarrier();
  if (local == 0u) {
    found[2] = atomicLoad(&selected);
    if (bad != 0u) { found[1] = 1u; }
  }
}
