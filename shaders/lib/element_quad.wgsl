// Sixteen bytes a load.
alias Element = vec4<u32>;
@group(0) @binding(0) var<storage, read> data: array<Element>;
fn elements() -> u32 { return arrayLength(&data); }
fn sum_zero() -> vec4<u32> { return vec4<u32>(0u); }
fn sum_add(sum: vec4<u32>, i: u32) -> vec4<u32> { return sum + data[i]; }
fn sum_total(sum: vec4<u32>) -> u32 { return sum.x + sum.y + sum.z + sum.w; }
