struct Params {
  rows: u32,        // rows of this shard
  row_base: u32,    // id of the shard's first row
  row_stride: u32,  // of a stored row, in vectors of 16 bytes
  dot_units: u32,   // of one part's values: vectors, or words where the dtype is taken so
  x_stride: u32,    // of x, in vec4<f32>
  out_stride: u32,  // of out, in f32
  gate_stride: u32, // of gate, in f32
  threshold: f32,
  fat: f32,
  part_stride: u32, // from one part of a row to the next (gate to up), in vectors
  norm_columns: f32,
  norm_eps: f32,
  value_vectors: u32, // of one part's values; scales, where the dtype has them, follow
}
struct Step {
  batch: u32,
}
