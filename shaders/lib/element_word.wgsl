// Four bytes a load.
alias Element = u32;
fn sum_zero() -> u32 { return 0u; }
fn sum_add(sum: u32, i: u32) -> u32 { return sum + data[i]; }
fn sum_total(sum: u32) -> u32 { return sum; }
