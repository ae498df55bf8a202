// out[lane] = sum of the elements that the lane reads of rows here and there: the read ceiling of lists. The rows come as EVERY
// lists, one after the other, each of one row in EVERY, ascending, at places that no stride foretells; together they are all
// rows, each once, so that no cache has what is read. Four rows are under way at a time.
// Where the elements lie is the open place. Grid: x = workgroups, as many for each list.
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
//@slot element

// Place n of a list: one of the EVERY rows from EVERY · n on, each of them in another list.
fn row_at(list: u32, n: u32) -> u32 { return (n * EVERY + (list + ((n * 2654435761u) >> 16u)) % EVERY) * ROW; }

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
  let count = elements() / (ROW * EVERY);
  let each = groups.x / EVERY;
  let list = group.x / each;
  let share = (count + each - 1u) / each;
  let end = min(count, (group.x % each + 1u) * share);
  var sum = sum_zero();
  var n = group.x % each * share;
  for (; n + 3u < end; n += 4u) {
    let a = row_at(list, n);
    let b = row_at(list, n + 1u);
    let c = row_at(list, n + 2u);
    let d = row_at(list, n + 3u);
    for (var v = local; v < ROW; v += WORKGROUP) {
      sum = sum_add(sum_add(sum_add(sum_add(sum, a + v), b + v), c + v), d + v);
    }
  }
  for (; n < end; n++) {
    for (var v = local; v < ROW; v += WORKGROUP) { sum = sum_add(sum, row_at(list, n) + v); }
  }
  out[group.x * WORKGROUP + local] = sum_total(sum);
}
