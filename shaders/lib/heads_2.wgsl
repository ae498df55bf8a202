// Two heads that share their keys and values: each is read once for all. Written out, as quads are.
const HEADS: u32 = 2u;
struct Queries {
  a: Quads,
  b: Quads,
}
struct Mixes {
  a: Mix,
  b: Mix,
}
fn queries_of(lane: u32) -> Queries { return Queries(lane_query(0u, lane), lane_query(1u, lane)); }
fn mixes_begun(span: u32, local: u32) -> Mixes {
  return Mixes(mix_begun(0u, span, local), mix_begun(1u, span, local));
}
fn mixes_at(mixes: Mixes, h: u32) -> Mix {
  switch h {
    case 0u: { return mixes.a; }
    default: { return mixes.b; }
  }
}
fn mixes_four(m: Mixes, q: Queries, k: Four, v: Four, here: vec4<bool>) -> Mixes {
  return Mixes(
    mix_four(m.a, q.a, k, v, here),
    mix_four(m.b, q.b, k, v, here),
  );
}
