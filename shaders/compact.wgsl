// list = [count, 0, 0, 0, ids of the active rows ascending]: a mask becomes the list that indexed kernels read.
// One workgroup: each lane takes a run of words, lane 0 adds up the runs (few lanes, two barriers: cheaper than a
// tree on software adapters, some microseconds on a GPU).
struct Params {
  rows: u32,
  capacity: u32, // ids the list can hold; none is written beyond, the count says how many there were
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read_write> list: array<u32>;
//@slot active
var<workgroup> starts: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) local: u32) {
  let words = (params.rows + 31u) / 32u;
  let run = (words + WORKGROUP - 1u) / WORKGROUP;
  let end = min(words, (local + 1u) * run);
  var mine = 0u;
  for (var w = local * run; w < end; w++) { mine += countOneBits(active_word(w)); }
  starts[local] = mine;
  workgroupBarrier();
  if (local == 0u) {
    var total = 0u;
    for (var l = 0u; l < WORKGROUP; l++) {
      let count = starts[l];
      starts[l] = total;
      total += count;
    }
    list[0] = total;
  }
  workgroupBarrier();
  var at = starts[local];
  for (var w = local * run; w < end; w++) {
    var bits = active_word(w);
    while (bits != 0u) {
      if (at < params.capacity) { list[4u + at] = w * 32u + firstTrailingBit(bits); }
      at++;
      bits &= bits - 1u;
    }
  }
}
