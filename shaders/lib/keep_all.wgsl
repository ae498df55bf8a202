fn rows_keep(b: u32, id: u32) -> bool { return true; }
