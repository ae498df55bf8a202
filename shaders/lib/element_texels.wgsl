// Sixteen bytes a load, out of a texture as stored_texels has it. What fills its last line is zero.
@group(0) @binding(0) var data: texture_storage_2d<rgba32uint, read>;
fn elements() -> u32 { return 4096u * textureDimensions(data).y; }
fn sum_zero() -> vec4<u32> { return vec4<u32>(0u); }
fn sum_add(sum: vec4<u32>, i: u32) -> vec4<u32> {
  return sum + textureLoad(data, vec2<u32>(i % 4096u, i / 4096u));
}
fn sum_total(sum: vec4<u32>) -> u32 { return sum.x + sum.y + sum.z + sum.w; }
