// A row of the pool, four units of it, on its way to the slab: into the sums times f, and to its slot.
fn arrive(sums: Sums, origin: u32, to: u32, v: u32, f: f32) -> Sums {
  let u0 = pool_weights[unit_at(origin, v)];
  let u1 = pool_weights[unit_at(origin, v + 1u)];
  let u2 = pool_weights[unit_at(origin, v + 2u)];
  let u3 = pool_weights[unit_at(origin, v + 3u)];
  weights[unit_at(to, v)] = u0;
  if (v + 1u < params.dot_units) { weights[unit_at(to, v + 1u)] = u1; }
  if (v + 2u < params.dot_units) { weights[unit_at(to, v + 2u)] = u2; }
  if (v + 3u < params.dot_units) { weights[unit_at(to, v + 3u)] = u3; }
  return Sums(
    quads_fma(sums.s0, f, pool_unit_quads(u0, origin, v)),
    quads_fma(sums.s1, f, pool_unit_quads(u1, origin, v + 1u)),
    quads_fma(sums.s2, f, pool_unit_quads(u2, origin, v + 2u)),
    quads_fma(sums.s3, f, pool_unit_quads(u3, origin, v + 3u)),
  );
}
