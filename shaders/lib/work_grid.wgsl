// A workgroup has the ROWS rows of its place in the grid.
fn work_first(group: u32, groups: u32, at: Lane, count: u32) -> u32 { return group * ROWS; }
fn work_next(groups: u32, at: Lane, count: u32) -> u32 { return count; }
