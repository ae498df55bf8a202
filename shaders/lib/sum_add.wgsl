fn put_sum(at: u32, column: u32, value: f32) { out[at] += value; }
