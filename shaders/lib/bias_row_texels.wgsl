// As bias_row, in a texture as stored_texels has it.
@group(0) @binding(5) var bias: texture_storage_2d<rgba32uint, read>;
fn row_bias(row: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(textureLoad(bias, vec2<u32>(row % 4096u, row / 4096u)));
}
