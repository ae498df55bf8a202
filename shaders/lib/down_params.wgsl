struct Params {
  rows: u32,        // rows of this shard
  row_base: u32,    // id of the shard's first row
  quads: u32,       // of columns; the stride of a partial row, in vec4<f32>
  x_stride: u32,    // of a, in f32
  first_split: u32, // of this shard
  columns: u32,     // of out
  out_stride: u32,  // of out, in f32
  row_stride: u32,  // of a stored row, in vectors of 16 bytes
  dot_units: u32,   // of a row's values: vectors, or words where the dtype is taken so
  value_vectors: u32, // of a row's values; scales, where the dtype has them, follow
  start: u32,         // of a row's values in the stored row, in vectors
}
struct Step {
  batch: u32,
}
