// Four bytes a load.
alias Element = u32;
@group(0) @binding(0) var<storage, read> data: array<Element>;
fn elements() -> u32 { return arrayLength(&data); }
fn sum_zero() -> u32 { return 0u; }
fn sum_add(sum: u32, i: u32) -> u32 { return sum + data[i]; }
fn sum_total(sum: u32) -> u32 { return sum; }
