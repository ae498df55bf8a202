// Two quads a vector. Rounding is pack2x16float's, to one of the two nearest halves: which one is the adapter's choice.
fn slab_vector(part: u32, v: u32) -> vec4<u32> {
  let low = pool_quad(part, 2u * v);
  // The last vector of the slab may reach beyond the pool's: what is there is another part's.
  var high = vec4<f32>(0.0);
  if (2u * v + 1u < shape.pool_values * QUADS) { high = pool_quad(part, 2u * v + 1u); }
  return vec4<u32>(pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
}
