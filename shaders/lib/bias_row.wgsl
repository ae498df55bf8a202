// Biases travel with their row: x is the matrix's (or the gate's), y the up's.
@group(0) @binding(5) var<storage, read> bias: array<vec4<f32>>;
fn row_bias(row: u32) -> vec4<f32> { return bias[row]; }
