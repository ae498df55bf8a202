// The pool's rows in a texture, as stored_texels has them.
@group(0) @binding(3) var pool0: texture_storage_2d<rgba32uint, read>;
fn pool0_at(i: u32) -> Vector { return textureLoad(pool0, vec2<u32>(i % 4096u, i / 4096u)); }
