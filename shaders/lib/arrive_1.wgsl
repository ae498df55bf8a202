// A row of the pool, one unit of it, on its way to the slab: into the sums times f, and to its slot.
fn arrive(sums: Sums, origin: u32, to: u32, v: u32, f: f32) -> Sums {
  let u0 = pool_weights[unit_at(origin, v)];
  weights[unit_at(to, v)] = u0;
  return quads_fma(sums, f, pool_unit_quads(u0, origin, v));
}
