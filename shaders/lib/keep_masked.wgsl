// What an element's mask leaves out becomes zero. The masks start with the words from one to the next (0: one for all)
// and three words of padding. Asked by gate_up and put_activate.
@group(0) @binding(7) var<storage, read> row_masks: array<u32>;
fn rows_keep(b: u32, id: u32) -> bool {
  return ((row_masks[4u + b * row_masks[0] + id / 32u] >> (id % 32u)) & 1u) == 1u;
}
