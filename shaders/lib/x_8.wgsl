// What is left of the norm for the finished sums: all of it.
fn x_normed(norm: f32) -> f32 { return norm; }
fn x_quads(at: u32) -> Quads {
  return Quads(x[at], x[at + 1u], x[at + 2u], x[at + 3u], x[at + 4u], x[at + 5u], x[at + 6u], x[at + 7u]);
}
