// The slots [0, m') of a slab that is being updated: some rows stay, the others are moves (to, source) of a plan.
// arrivals: [S, P, m', 0, the S slots that stay ..., the m' - S moves ...]; destinations ascend; the first P moves come
// from the pool, the others, with bit 31 of the source set, from a slot of this slab.
@group(0) @binding(6) var<storage, read> arrivals: array<u32>;
struct Move {
  to: u32,
  source: u32,
}
fn rows_stay() -> u32 { return arrivals[0]; }
fn rows_count() -> u32 { return arrivals[2]; }
fn rows_at(i: u32) -> u32 { return arrivals[4u + i]; }
fn moves_from_pool() -> u32 { return arrivals[1]; }
fn moves_count() -> u32 { return arrivals[2] - arrivals[0]; }
fn move_at(n: u32) -> Move {
  let at = 4u + arrivals[0] + 2u * n;
  return Move(arrivals[at], arrivals[at + 1u]);
}
// The first move to `slot` or one behind it.
fn move_from(slot: u32) -> u32 {
  var low = 0u;
  var high = moves_count();
  while (low < high) {
    let middle = (low + high) / 2u;
    if (move_at(middle).to < slot) { low = middle + 1u; } else { high = middle; }
  }
  return low;
}
