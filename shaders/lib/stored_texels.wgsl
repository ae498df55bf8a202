// Stored rows in a texture: vector i of 16 bytes is texel i % 4096 of line i / 4096 (src/gpu/texels.ts).
// For lavapipe, where a vector loaded from a buffer is 32 loads, each behind a branch of its own, and one loaded from a
// storage texture is eight and a transpose: a sum over 64 MiB reads 16 GB/s so, 6 from a buffer.
@group(0) @binding(2) var weights: texture_storage_2d<rgba32uint, read>;
fn stored(at: u32) -> Unit { return textureLoad(weights, vec2<u32>(at % 4096u, at / 4096u)); }
