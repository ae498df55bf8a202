// value · gate[row]: the up projection of a layer whose gate was computed before.
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(7) var<storage, read> gate: array<f32>;
fn put(b: u32, i: u32, id: u32, value: f32) {
  out[b * params.out_stride + i] = value * gate[b * params.gate_stride + id];
}
