// One batch element at a time.
const BATCH_TILE: u32 = 1u;
alias Sums = vec4<f32>;
fn sums_zero() -> Sums { return vec4<f32>(0.0); }
fn sums_add(sums: Sums, w: vec4<f32>, at: u32) -> Sums { return sums + a[at] * w; }
fn sums_at(sums: Sums, b: u32) -> vec4<f32> { return sums; }
