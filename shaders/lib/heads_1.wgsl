// One head.
const HEADS: u32 = 1u;
alias Queries = Quads;
alias Mixes = Mix;
fn queries_of(lane: u32) -> Queries { return lane_query(0u, lane); }
fn mixes_begun(span: u32, local: u32) -> Mixes { return mix_begun(0u, span, local); }
fn mixes_at(mixes: Mixes, h: u32) -> Mix { return mixes; }
fn mixes_four(m: Mixes, q: Queries, k: Four, v: Four, here: vec4<bool>) -> Mixes { return mix_four(m, q, k, v, here); }
