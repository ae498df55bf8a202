// out[b] = x[b] / sqrt(mean(x[b]²) + eps) · weight. One workgroup a token.
struct Params {
  columns: u32,
  stride: u32, // of x and out, in f32
  eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
var<workgroup> squares: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let start = group.x * params.stride;
  var mine = 0.0;
  for (var c = local; c < params.columns; c += WORKGROUP) { mine += x[start + c] * x[start + c]; }
  squares[local] = mine;
  workgroupBarrier();
  // Every lane adds all parts itself, in the same order: one barrier instead of a tree of them.
  var sum = 0.0;
  for (var l = 0u; l < WORKGROUP; l++) { sum += squares[l]; }
  let scale = inverseSqrt(sum / f32(params.columns) + params.eps);
  for (var c = local; c < params.columns; c += WORKGROUP) { out[start + c] = x[start + c] * scale * weight[c]; }
}
