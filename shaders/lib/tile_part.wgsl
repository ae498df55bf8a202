// Where a row's values begin in the weights. Places beyond the list, and rows of other shards, stand in for a row that is
// there: what comes of them is not put anywhere.
fn tile_part(i: u32, count: u32) -> u32 {
  return min(rows_at(min(i, count - 1u)), params.rows - 1u) * params.row_stride;
}
