// 64 bytes by four loads of a line: one index for all, and 4 divides 4096.
@group(0) @binding(0) var data: texture_storage_2d<rgba32uint, read>;
fn elements() -> u32 { return 1024u * textureDimensions(data).y; }
fn sum_zero() -> vec4<u32> { return vec4<u32>(0u); }
fn sum_add(sum: vec4<u32>, i: u32) -> vec4<u32> {
  let x = 4u * (i % 1024u);
  let y = i / 1024u;
  return sum + ((textureLoad(data, vec2<u32>(x, y)) + textureLoad(data, vec2<u32>(x + 1u, y)))
    + (textureLoad(data, vec2<u32>(x + 2u, y)) + textureLoad(data, vec2<u32>(x + 3u, y))));
}
fn sum_total(sum: vec4<u32>) -> u32 { return sum.x + sum.y + sum.z + sum.w; }
