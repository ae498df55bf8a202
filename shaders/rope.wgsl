// Rotary embedding (half-split pairs, as in Hugging Face's LLaMA) of q in place, and of k on its way into the cache;
// v goes into the cache as it is. qkv[b] = [q heads | k heads | v heads]; the cache is [position, kv heads, cached dim].
// Grid: x = (q + k + v heads) · half a head / WORKGROUP; y = batch.
struct Params {
  heads: u32,
  kv_heads: u32,
  half_dim: u32,
  stride: u32,     // of qkv, in f32
  cached_dim: u32, // head dim padded to a multiple of 4; the padding stays as it is
}
struct Step {
  batch: u32,
  position: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> turns: array<vec2<f32>>; // [position, half_dim] of (cos, sin)
@group(0) @binding(3) var<storage, read_write> qkv: array<f32>;
@group(0) @binding(4) var<storage, read_write> keys: array<f32>;
@group(0) @binding(5) var<storage, read_write> values: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
  let half = params.half_dim;
  let head = at.x / half;
  let d = at.x % half;
  if (head >= params.heads + 2u * params.kv_heads || at.y >= step.batch) { return; }
  let position = step.position + at.y;
  let start = at.y * params.stride + head * 2u * half + d;
  let low = qkv[start];
  let high = qkv[start + half];
  let turn = turns[position * half + d];
  let low_turned = low * turn.x - high * turn.y;
  let high_turned = high * turn.x + low * turn.y;
  let row = position * params.kv_heads;
  if (head < params.heads) {
    qkv[start] = low_turned;
    qkv[start + half] = high_turned;
  } else if (head < params.heads + params.kv_heads) {
    let to = (row + head - params.heads) * params.cached_dim + d;
    keys[to] = low_turned;
    keys[to + half] = high_turned;
  } else {
    let to = (row + head - params.heads - params.kv_heads) * params.cached_dim + d;
    values[to] = low;
    values[to + half] = high;
  }
}
