// x[b] = E[tokens[b]], widened to f32; `next` may leave it scaled as well. Rows of other shards are left alone.
// Grid: x = stored vectors of a row / WORKGROUP; y = batch.
//@slot params
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(3) var<storage, read> tokens: array<u32>;
@group(0) @binding(4) var<storage, read_write> x: array<vec4<f32>>;
//@slot quads
//@slot dtype
//@slot next

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
  if (at.x >= params.dot_units || at.y >= step.batch) { return; }
  let row = tokens[at.y] - params.row_base;
  if (row >= params.rows) { return; }
  let part = row * params.row_stride;
  let quads = weight_quads(part, at.x);
  for (var q = 0u; q < QUADS; q++) {
    let c = at.x * QUADS + q;
    if (c < params.x_stride) {
      let quad = part_scale(part) * quads_at(quads, q);
      x[at.y * params.x_stride + c] = quad;
      next(at.y * params.x_stride + c, c, quad);
    }
  }
}
