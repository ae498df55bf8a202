// The likeliest token, without the CPU: the first of the largest logits becomes the token of the next step, one position
// on, and is noted in made. A logit that is NaN or +infinity, or nothing but -infinity, gives NONE, and so does every
// step after it. One workgroup; WORKGROUP is a power of two.
struct Params {
  vocab: u32,
}
struct Next {
  batch: u32,
  position: u32,
  made: u32, // tokens noted so far
}
const NONE = 0xffffffffu;
const INFINITE = 0x7f800000u;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read_write> next: Next;
@group(0) @binding(3) var<storage, read> logits: array<f32>;
@group(0) @binding(4) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(5) var<storage, read_write> made: array<u32>;
var<workgroup> values: array<f32, WORKGROUP>;
var<workgroup> ids: array<u32, WORKGROUP>;
var<workgroup> spoilt: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) local: u32) {
  var id = NONE;
  var value = 0.0;
  var bad = 0u;
  for (var i = local; i < params.vocab; i += WORKGROUP) {
    let logit = logits[i];
    // By its bits: WGSL lets a compiler assume that there is no NaN and no infinity.
    let bits = bitcast<u32>(logit);
    bad |= u32((bits & 0x7fffffffu) > INFINITE || bits == INFINITE);
    if ((bits & 0x7fffffffu) < INFINITE && (id == NONE || logit > value)) {
      id = i;
      value = logit;
    }
  }
  values[local] = value;
  ids[local] = id;
  spoilt[local] = bad;
  for (var span = WORKGROUP / 2u; span > 0u; span /= 2u) {
    workgroupBarrier();
    if (local < span) {
      let other = ids[local + span];
      let better = values[local + span] > value || (values[local + span] == value && other < id);
      if (other != NONE && (id == NONE || better)) {
        id = other;
        value = values[local + span];
        ids[local] = id;
        values[local] = value;
      }
      bad |= spoilt[local + span];
      spoilt[local] = bad;
    }
  }
  if (local == 0u) {
    let token = select(id, NONE, bad != 0u || tokens[0] == NONE);
    made[next.made] = token;
    tokens[0] = token;
    next.made++;
    next.position++;
  }
}
