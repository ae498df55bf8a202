// As put_activate, for one token; and the workgroup lists the active rows among its own: a segment of SEGMENT rows.
// segments: [row ids of each segment, side by side from its start], then [how many each has]. ROWS must be SEGMENT.
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(8) var<storage, read_write> segments: array<u32>;
var<workgroup> segment_values: array<f32, SEGMENT>;
fn put(b: u32, i: u32, id: u32, value: f32) {
  let a = activate(value);
  let kept = select(0.0, a, abs(a) > params.threshold);
  out[i] = kept;
  segment_values[i % SEGMENT] = kept;
}
fn put_end(at: Lane, first: u32, count: u32) {
  workgroupBarrier();
  if (at.local != 0u) { return; }
  var n = 0u;
  for (var r = first; r < min(count, first + SEGMENT); r++) {
    if (segment_values[r % SEGMENT] != 0.0) {
      segments[first + n] = r;
      n++;
    }
  }
  let all = (count + SEGMENT - 1u) / SEGMENT * SEGMENT;
  segments[all + first / SEGMENT] = n;
}
