// A row is active where its value is not zero for any of the batch. values: [batch, stride], rows padded to whole quads.
struct Step {
  batch: u32,
}
@group(0) @binding(5) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> values: array<vec4<f32>>;
fn active_word(w: u32) -> u32 {
  var bits = 0u;
  let first = w * 8u;
  let quads = min(8u, (params.rows + 3u) / 4u - first);
  for (var b = 0u; b < step.batch; b++) {
    for (var q = 0u; q < quads; q++) {
      let used = values[b * params.stride + first + q] != vec4<f32>(0.0);
      bits |= dot(select(vec4<u32>(0u), vec4<u32>(1u, 2u, 4u, 8u), used), vec4<u32>(1u)) << (q * 4u);
    }
  }
  // What pads the last quad belongs to no row.
  let left = params.rows - w * 32u;
  return select(bits, bits & ((1u << (left & 31u)) - 1u), left < 32u);
}
