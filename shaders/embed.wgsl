// x[b] = E[tokens[b]], widened to f32. Rows of other shards are left alone.
// Grid: x = vectors of a row / WORKGROUP; y = batch.
//@slot params
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> tokens: array<u32>;
@group(0) @binding(4) var<storage, read_write> x: array<vec4<f32>>;
//@slot weights

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
  if (at.x >= params.dot_vectors || at.y >= step.batch) { return; }
  let row = tokens[at.y] - params.row_base;
  if (row >= params.rows) { return; }
  let vector = weights[row * params.row_stride + at.x];
  for (var q = 0u; q < QUADS; q++) {
    let to = at.x * QUADS + q;
    if (to < params.x_stride) { x[at.y * params.x_stride + to] = quad(vector, q); }
  }
}
