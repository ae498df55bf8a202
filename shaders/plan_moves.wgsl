// The tight plan without the CPU: from the rows that a slab holds and those that are wanted, the moves that copy_rows
// makes. Holes below m' ascend; into them go the additions by row id, then the survivors at or above m' by slot.
// One workgroup. Each lane takes a run of mask words, then a run of slots; what stands in the runs before its own gives
// it the ranks, so that every move is written where it belongs at once.
// When more rows are wanted than the slab has slots there are no moves, and what is held stays: counts says so, for good
// (the host clears it).
struct Params {
  rows: u32,
  capacity: u32,  // slots of the slab
  counts_at: u32, // word of counts where this slab's eight begin
}
const MOVE_FROM_SLAB = 0x80000000u;
@group(0) @binding(0) var<uniform> params: Params;
//@slot active
// [m, 0, 0, 0, slot -> row id ...], kept by copy_rows
@group(0) @binding(2) var<storage, read> row_list: array<u32>;
// [2 words]: bits of the rows held, then of those that were wanted last
@group(0) @binding(3) var<storage, read_write> held: array<u32>;
// What is planned, as `emit` has it.
@group(0) @binding(4) var<storage, read_write> region: array<u32>;
// [moves, m', A, R, updates refused so far, rows wanted by the last of those, 0, 0]
@group(0) @binding(5) var<storage, read_write> counts: array<u32>;
//@slot emit
var<workgroup> sums: array<vec2<u32>, 2u * WORKGROUP>; // of two phases

// Sums over the lanes before this one, and over all.
struct Ranks {
  before: vec2<u32>,
  all: vec2<u32>,
}
fn ranks(phase: u32, local: u32, sum: vec2<u32>) -> Ranks {
  sums[phase * WORKGROUP + local] = sum;
  workgroupBarrier();
  var before = vec2<u32>(0u);
  var all = vec2<u32>(0u);
  for (var l = 0u; l < WORKGROUP; l++) {
    let other = sums[phase * WORKGROUP + l];
    before += select(vec2<u32>(0u), other, l < local);
    all += other;
  }
  return Ranks(before, all);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) local: u32) {
  let words = (params.rows + 31u) / 32u;
  let share = (words + WORKGROUP - 1u) / WORKGROUP;
  let first_word = min(words, local * share);
  let end_word = min(words, first_word + share);
  var sum = vec2<u32>(0u); // additions, rows wanted
  for (var w = first_word; w < end_word; w++) {
    let bits = active_word(w);
    held[words + w] = bits;
    sum += vec2<u32>(countOneBits(bits & ~held[w]), countOneBits(bits));
  }
  let rows = ranks(0u, local, sum);
  let added = rows.all.x;
  let wanted = rows.all.y;
  let m = row_list[0];
  let fits = wanted <= params.capacity;

  // What does not fit leaves all as it is.
  let goal = select(m, wanted, fits);
  let slots = max(m, goal);
  let slot_share = (slots + WORKGROUP - 1u) / WORKGROUP;
  let first_slot = min(slots, local * slot_share);
  let end_slot = min(slots, first_slot + slot_share);
  sum = vec2<u32>(0u); // holes below m', survivors at or above it
  for (var slot = first_slot; slot < end_slot; slot++) {
    let stays = slot < m && (!fits || is_active(row_list[4u + slot]));
    sum += vec2<u32>(u32(slot < goal && !stays), u32(slot >= goal && stays));
  }
  let places = ranks(1u, local, sum);
  let at = moves_at(places.all.x, goal);
  var hole = places.before.x;
  var survivor = added + places.before.y;
  for (var slot = first_slot; slot < end_slot; slot++) {
    let stays = slot < m && (!fits || is_active(row_list[4u + slot]));
    if (slot < goal) {
      if (stays) {
        put_stay(slot - hole, slot);
      } else {
        region[at + 2u * hole] = slot;
        hole++;
      }
    } else if (stays) {
      region[at + 2u * survivor + 1u] = MOVE_FROM_SLAB | slot;
      survivor++;
    }
  }
  if (fits) {
    var addition = rows.before.x;
    for (var w = first_word; w < end_word; w++) {
      let now = held[words + w];
      var bits = now & ~held[w];
      held[w] = now;
      while (bits != 0u) {
        region[at + 2u * addition + 1u] = w * 32u + firstTrailingBit(bits);
        addition++;
        bits &= bits - 1u;
      }
    }
  }
  if (local == 0u) {
    let step = select(vec4<u32>(0u, m, 0u, 0u), vec4<u32>(places.all.x, wanted, added, m + added - wanted), fits);
    let head = heading(step);
    for (var k = 0u; k < 4u; k++) {
      region[k] = head[k];
      counts[params.counts_at + k] = step[k];
    }
    if (!fits) {
      counts[params.counts_at + 4u]++;
      counts[params.counts_at + 5u] = wanted;
    }
  }
}
