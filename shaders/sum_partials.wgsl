// out[b, c] (+)= sum over splits of partials[s, b, c], plus the output bias.
// Grid: x = column quads / WORKGROUP; y = batch.
struct Params {
  splits: u32,
  stride: u32,     // of a partial row, in vec4<f32>
  columns: u32,    // of out
  out_stride: u32, // of out, in f32
}
struct Step {
  batch: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> partials: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
//@slot put

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
  let quad = at.x;
  let b = at.y;
  if (quad >= params.stride || b >= step.batch) { return; }
  var sum = vec4<f32>(0.0);
  for (var s = 0u; s < params.splits; s++) { sum += partials[(s * step.batch + b) * params.stride + quad]; }
  for (var k = 0u; k < 4u; k++) {
    let c = quad * 4u + k;
    if (c < params.columns) { put_sum(b * params.out_stride + c, c, sum[k] + bias[c]); }
  }
}
