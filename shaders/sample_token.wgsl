// A token drawn without the CPU, by temperature, top k and top p: it becomes the token of the next step, one position on,
// and is noted in made. Logits that are not finite (-infinity rules a token out) give NONE, and so does every step after.
//
// Nothing is sorted. The tokens that top k or top p leave are a beginning of the order by (logit falling, id rising): the
// logit where it ends is searched for between the highest and the lowest, four parts at a time, by what the tokens above
// three logits in between add up to: 1 each for top k, their weights for top p. Each lane keeps a list of the tokens of
// its share of ids that may be left, and strikes out what has fallen below. Few come into it: for top k those above a
// logit that as many blocks of tokens reach, for top p those too heavy to be all left out. What is left is summed by id,
// and the token where a random share of the sum lies is taken. Weights are whole numbers (src/llama/token-weights.ts),
// their sums of 64 bits exact. One workgroup.
struct Params {
  vocab: u32,
  top_k: u32, // 0: all
  top_p: u32, // in 2^-32; 0: all
  scale: f32, // exponent steps to half a logit
  reach: f32, // half the distance below the highest logit beyond which there is no weight
}
struct Next {
  batch: u32,
  position: u32,
  made: u32, // tokens noted so far
}
const NONE = 0xffffffffu;
// Keys: u32 in the order of the f32 they stand for. Finite ones lie between these.
const BELOW_FINITE = 0x007fffffu; // of -infinity
const ABOVE_FINITE = 0xff800000u; // of +infinity
const BLOCKS = 32u; // of a lane, at most
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> left: array<u32>; // [vocab]: ids, lane by lane
@group(0) @binding(2) var<storage, read_write> next: Next;
@group(0) @binding(3) var<storage, read> logits: array<u32>; // bits of f32
@group(0) @binding(4) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(5) var<storage, read_write> made: array<u32>;
@group(0) @binding(6) var<storage, read> words: array<u32>; // a random one for each token
@group(0) @binding(7) var<storage, read> powers: array<u32>; // [257]: 2^31 · 2^(-i / 256)
var<workgroup> highest: atomic<u32>;
var<workgroup> lowest: atomic<u32>;
var<workgroup> lowest_best: atomic<u32>;
var<workgroup> spoilt: atomic<u32>;
var<workgroup> shared_key: u32;
var<workgroup> shared_flag: u32;
var<workgroup> sums: array<vec2<u32>, WORKGROUP>;
var<workgroup> sums_2: array<vec2<u32>, WORKGROUP>;
var<workgroup> sums_3: array<vec2<u32>, WORKGROUP>;

// Numbers of 64 bits: (low word, high word).
fn plus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let low = a.x + b.x;
  return vec2<u32>(low, a.y + b.y + u32(low < b.x));
}
fn minus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> { return vec2<u32>(a.x - b.x, a.y - b.y - u32(a.x < b.x)); }
fn less(a: vec2<u32>, b: vec2<u32>) -> bool { return a.y < b.y || (a.y == b.y && a.x < b.x); }
fn times(a: u32, b: u32) -> vec2<u32> {
  let al = a & 0xffffu;
  let ah = a >> 16u;
  let bl = b & 0xffffu;
  let bh = b >> 16u;
  let mid = ah * bl + ((al * bl) >> 16u);
  let mid_2 = al * bh + (mid & 0xffffu);
  return vec2<u32>(a * b, ah * bh + (mid >> 16u) + (mid_2 >> 16u));
}
// floor(total · part / 2^32)
fn part_of(total: vec2<u32>, part: u32) -> vec2<u32> {
  return plus(times(total.y, part), vec2<u32>(times(total.x, part).y, 0u));
}

// A number of 64 bits, `by` bits lower; 0 < by < 32. All bits above the lowest 32 must be gone then.
fn shifted(a: vec2<u32>, by: u32) -> u32 { return (a.x >> by) | (a.y << (32u - by)); }

fn key_of(bits: u32) -> u32 {
  let one_zero = select(bits, 0u, bits == 0x80000000u);
  return select(one_zero | 0x80000000u, ~one_zero, (one_zero >> 31u) == 1u);
}
fn value_of(key: u32) -> f32 { return bitcast<f32>(select(~key, key & 0x7fffffffu, (key >> 31u) == 1u)); }
fn weight_of(key: u32, half_highest: f32) -> u32 {
  if (key <= BELOW_FINITE) { return 0u; }
  let below = half_highest - 0.5 * value_of(key);
  if (!(below <= params.reach)) { return 0u; }
  let steps = u32(below * params.scale);
  let at = (steps >> 9u) & 255u;
  let high = powers[at];
  return (high - (((high - powers[at + 1u]) * (steps & 511u)) >> 9u)) >> (steps >> 17u);
}

// A lane's list, which begins at `begin` in left, of tokens whose keys are at least `low`.
struct Listed {
  count: u32,
  low: u32,
}

// Strikes out of the lists what is not needed to reach `goal`, tokens of the lowest keys first, of equals the highest ids.
// `all` is what the lists come to: their tokens, or weights, above 0 each.
fn narrow(local: u32, begin: u32, from_list: Listed, high: u32, all: vec2<u32>, goal: vec2<u32>, weigh: bool) -> Listed {
  let half_highest = 0.5 * value_of(high);
  var list = from_list;
  var above = high + 1u;
  var sum = all; // of keys from list.low on
  var sum_above = vec2<u32>(0u); // of keys from `above` on
  loop {
    // What each token in question comes to at the least. Where so little is too much, all of them are needed.
    let least = vec2<u32>(select(1u, weight_of(list.low, half_highest), weigh), 0u);
    if (local == 0u) {
      shared_flag = u32(above - list.low > 1u && !less(sum, plus(goal, least)));
    }
    if (workgroupUniformLoad(&shared_flag) == 0u) { break; }
    let step = max(1u, (above - list.low) / 4u);
    let key_1 = list.low + step;
    let key_2 = min(above, key_1 + step);
    let key_3 = min(above, key_2 + step);
    var mine_1 = vec2<u32>(0u);
    var mine_2 = vec2<u32>(0u);
    var mine_3 = vec2<u32>(0u);
    var kept = 0u;
    for (var j = 0u; j < list.count; j++) {
      let id = left[begin + j];
      let key = key_of(logits[id]);
      if (key >= list.low) {
        left[begin + kept] = id;
        kept++;
        var amount = 1u;
        if (weigh) { amount = weight_of(key, half_highest); }
        mine_1 = plus(mine_1, vec2<u32>(select(0u, amount, key >= key_1), 0u));
        mine_2 = plus(mine_2, vec2<u32>(select(0u, amount, key >= key_2), 0u));
        mine_3 = plus(mine_3, vec2<u32>(select(0u, amount, key >= key_3), 0u));
      }
    }
    list.count = kept;
    sums[local] = mine_1;
    sums_2[local] = mine_2;
    sums_3[local] = mine_3;
    workgroupBarrier();
    var sum_1 = vec2<u32>(0u);
    var sum_2 = vec2<u32>(0u);
    var sum_3 = vec2<u32>(0u);
    for (var l = 0u; l < WORKGROUP; l++) {
      sum_1 = plus(sum_1, sums[l]);
      sum_2 = plus(sum_2, sums_2[l]);
      sum_3 = plus(sum_3, sums_3[l]);
    }
    if (less(sum_1, goal)) {
      above = key_1;
      sum_above = sum_1;
    } else if (less(sum_2, goal)) {
      list.low = key_1;
      sum = sum_1;
      above = key_2;
      sum_above = sum_2;
    } else if (less(sum_3, goal)) {
      list.low = key_2;
      sum = sum_2;
      above = key_3;
      sum_above = sum_3;
    } else {
      list.low = key_3;
      sum = sum_3;
    }
  }
  // Where one key is left, its tokens may be more than are needed: those of the lowest ids stay.
  let tied = above - list.low == 1u;
  let each = select(1u, weight_of(list.low, half_highest), weigh);
  var ties = 0u;
  if (tied) {
    for (var j = 0u; j < list.count; j++) { ties += u32(key_of(logits[left[begin + j]]) == list.low); }
  }
  sums[local] = vec2<u32>(ties, 0u);
  workgroupBarrier();
  ties = 0u;
  for (var l = 0u; l < local; l++) { ties += sums[l].x; }
  var kept = 0u;
  for (var j = 0u; j < list.count; j++) {
    let id = left[begin + j];
    let key = key_of(logits[id]);
    var stays = key >= list.low;
    if (tied && key == list.low) {
      stays = less(plus(sum_above, times(ties, each)), goal);
      ties++;
    }
    if (stays) {
      left[begin + kept] = id;
      kept++;
    }
  }
  list.count = kept;
  workgroupBarrier();
  return list;
}

// Of the lanes before this one, and of all.
struct Total {
  before: vec2<u32>,
  all: vec2<u32>,
}
fn total_of(local: u32, mine: vec2<u32>) -> Total {
  sums[local] = mine;
  workgroupBarrier();
  var total = Total(vec2<u32>(0u), vec2<u32>(0u));
  for (var l = 0u; l < WORKGROUP; l++) {
    if (l == local) { total.before = total.all; }
    total.all = plus(total.all, sums[l]);
  }
  workgroupBarrier();
  return total;
}

fn weights_of(begin: u32, count: u32, half_highest: f32) -> vec2<u32> {
  var sum = vec2<u32>(0u);
  for (var j = 0u; j < count; j++) {
    sum = plus(sum, vec2<u32>(weight_of(key_of(logits[left[begin + j]]), half_highest), 0u));
  }
  return sum;
}

// The weight that is left after top p.
fn top_p_of(total: vec2<u32>) -> vec2<u32> {
  let goal = part_of(total, params.top_p);
  // The likeliest stays whatever its share.
  return vec2<u32>(max(goal.x, u32(goal.y == 0u)), goal.y);
}

// Lists the token of the highest logit of each block of this lane's: as many tokens have keys from the k-th highest of
// theirs on.
fn best_of_blocks(local: u32, begin: u32, end: u32) -> Listed {
  let size = (end - begin + BLOCKS - 1u) / BLOCKS;
  var list = Listed(0u, 0u);
  var least = NONE;
  for (var first = begin; first < end; first += size) {
    var best = first;
    var most = 0u;
    for (var i = first; i < min(end, first + size); i++) {
      let key = key_of(logits[i]);
      if (key > most) {
        most = key;
        best = i;
      }
    }
    left[begin + list.count] = best;
    list.count++;
    least = min(least, most);
  }
  atomicMin(&lowest_best, least);
  workgroupBarrier();
  list.low = atomicLoad(&lowest_best);
  return list;
}

fn note(token: u32) {
  made[next.made] = token;
  tokens[0] = token;
  next.made++;
  next.position++;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) local: u32) {
  let word = words[next.made];
  if (local == 0u) {
    atomicStore(&highest, 0u);
    atomicStore(&lowest, NONE);
    atomicStore(&lowest_best, NONE);
    atomicStore(&spoilt, u32(tokens[0] == NONE));
  }
  workgroupBarrier();
  var most = 0u;
  var bad = 0u;
  for (var i = local; i < params.vocab; i += WORKGROUP) {
    let key = key_of(logits[i]);
    most = max(most, key);
    // A NaN, by its sign, is beyond the one or the other.
    bad |= u32(key < BELOW_FINITE || key >= ABOVE_FINITE);
  }
  atomicMax(&highest, most);
  atomicOr(&spoilt, bad);
  workgroupBarrier();
  if (local == 0u) {
    shared_key = atomicLoad(&highest);
    shared_flag = u32(atomicLoad(&spoilt) != 0u || shared_key <= BELOW_FINITE);
  }
  let high = workgroupUniformLoad(&shared_key);
  if (workgroupUniformLoad(&shared_flag) != 0u) {
    if (local == 0u) { note(NONE); }
    return;
  }
  let half_highest = 0.5 * value_of(high);

  let share = (params.vocab + WORKGROUP - 1u) / WORKGROUP;
  let begin = min(params.vocab, local * share);
  let end = min(params.vocab, begin + share);
  var list = Listed(0u, 0u);
  var mine = vec2<u32>(0u);
  // What is needed of a token to be listed: any weight, and more where that is known to leave out none that stays.
  var from_key = BELOW_FINITE + 1u;
  var from_weight = 1u;
  var goal = vec2<u32>(0u); // of top p
  if (params.top_k != 0u) {
    list = best_of_blocks(local, begin, end);
    let blocks = total_of(local, vec2<u32>(list.count, 0u)).all;
    list = narrow(local, begin, list, high, blocks, vec2<u32>(params.top_k, 0u), false);
    if (blocks.x >= params.top_k) { from_key = list.low; }
  } else if (params.top_p != 0u) {
    for (var i = begin; i < end; i++) {
      mine = plus(mine, vec2<u32>(weight_of(key_of(logits[i]), half_highest), 0u));
    }
    let all = total_of(local, mine).all;
    goal = top_p_of(all);
    // Tokens of less weight are together less than what may be left out.
    from_weight = max(1u, shifted(minus(all, goal), 32u - countLeadingZeros(params.vocab)));
  }

  list.count = 0u;
  var least = high;
  mine = vec2<u32>(0u);
  for (var i = begin; i < end; i++) {
    let key = key_of(logits[i]);
    if (key >= from_key) {
      let weight = weight_of(key, half_highest);
      if (weight >= from_weight) {
        left[begin + list.count] = i;
        list.count++;
        least = min(least, key);
        mine = plus(mine, vec2<u32>(weight, 0u));
      }
    }
  }
  atomicMin(&lowest, least);
  workgroupBarrier();
  list.low = atomicLoad(&lowest);
  if (params.top_k != 0u) {
    let listed = total_of(local, vec2<u32>(list.count, 0u));
    list = narrow(local, begin, list, high, listed.all, vec2<u32>(params.top_k, 0u), false);
    mine = weights_of(begin, list.count, half_highest);
  }
  var total = total_of(local, mine);
  if (params.top_p != 0u) {
    if (params.top_k != 0u) { goal = top_p_of(total.all); }
    list = narrow(local, begin, list, high, total.all, goal, true);
    mine = weights_of(begin, list.count, half_highest);
    total = total_of(local, mine);
  }

  let target_sum = part_of(total.all, word);
  // One lane's share of the sum has it.
  if (!less(target_sum, total.before) && less(target_sum, plus(total.before, mine))) {
    var passed = total.before;
    var j = 0u;
    loop {
      let id = left[begin + j];
      passed = plus(passed, vec2<u32>(weight_of(key_of(logits[id]), half_highest), 0u));
      if (less(target_sum, passed)) {
        note(id);
        break;
      }
      j++;
    }
  }
}
