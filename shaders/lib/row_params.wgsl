struct Params {
  rows: u32,        // rows of this shard
  row_base: u32,    // id of the shard's first row
  row_stride: u32,  // of a stored row, in vectors of 16 bytes
  dot_vectors: u32, // vectors of one dot product (half a row where gate and up share it)
  x_stride: u32,    // of x, in vec4<f32>
  out_stride: u32,  // of out, in f32
  gate_stride: u32, // of gate, in f32
  threshold: f32,
  fat: f32,
}
struct Step {
  batch: u32,
}
