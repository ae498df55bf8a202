// What is left of the norm for the finished sums: all of it.
fn x_normed(norm: f32) -> f32 { return norm; }
fn x_quads(at: u32) -> Quads {
  return Quads(x_vector(at), x_vector(at + 1u), x_vector(at + 2u), x_vector(at + 3u), x_vector(at + 4u), x_vector(at + 5u), x_vector(at + 6u), x_vector(at + 7u));
}
