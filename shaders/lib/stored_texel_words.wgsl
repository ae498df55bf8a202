// As stored_texels, a word at a time: for wide tiles of quantised rows, where a whole vector is too much code.
@group(0) @binding(2) var weights: texture_storage_2d<rgba32uint, read>;
fn stored(at: u32) -> Unit {
  let texel = at / 4u;
  return textureLoad(weights, vec2<u32>(texel % 4096u, texel / 4096u))[at % 4u];
}
