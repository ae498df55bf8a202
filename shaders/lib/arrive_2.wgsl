// A row of the pool, two units of it, on its way to the slab: into the sums times f, and to its slot.
fn arrive(sums: Sums, origin: u32, to: u32, v: u32, f: f32) -> Sums {
  let u0 = pool_weights[unit_at(origin, v)];
  let u1 = pool_weights[unit_at(origin, v + 1u)];
  weights[unit_at(to, v)] = u0;
  if (v + 1u < params.dot_units) { weights[unit_at(to, v + 1u)] = u1; }
  return Sums(
    quads_fma(sums.first, f, pool_unit_quads(u0, origin, v)),
    quads_fma(sums.second, f, pool_unit_quads(u1, origin, v + 1u)),
  );
}
