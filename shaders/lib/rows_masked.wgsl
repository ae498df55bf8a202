// Every row of this shard is computed; what the mask leaves out is then set to zero (the dense baseline
// under a mask): by gate_up and put_activate, the two that ask rows_keep.
const ABSENT: u32 = 0xffffffffu;
@group(0) @binding(6) var<storage, read> row_mask: array<u32>;
fn rows_count() -> u32 { return params.rows; }
fn rows_at(i: u32) -> u32 { return i; }
fn rows_out(i: u32) -> u32 { return params.row_base + i; }
fn rows_id(i: u32) -> u32 { return params.row_base + i; }
fn rows_keep(id: u32) -> bool { return ((row_mask[id / 32u] >> (id % 32u)) & 1u) == 1u; }
