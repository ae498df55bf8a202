import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Governor } from '../../demo/src/view/governor.js';

/** Decodes runs of tokens, and draws whenever the governor lets it. @returns ms decoded, and ms that drawing took. */
function simulate(
  runs: readonly { ms: number; tokens: number }[],
  frame: (n: number) => { ms: number; late: number },
) {
  const governor = new Governor();
  let [decoded, drawn, frames, late] = [0, 0, 0, 0];
  let after = false;
  for (const { ms, tokens } of runs) {
    decoded += ms;
    drawn += late;
    governor.decoded(ms + late, tokens, after);
    late = 0;
    after = governor.due;
    if (!after) continue;
    const cost = frame(frames++);
    drawn += cost.ms;
    late = cost.late;
    governor.drawn(cost.ms);
  }
  return { decoded, drawn, frames };
}

const steady = (count: number, ms: number) => Array.from({ length: count }, () => ({ ms, tokens: 8 }));

describe('the governor', () => {
  it('keeps drawing at 5 % of the time or less, whatever a frame costs', () => {
    const runs = fc.array(
      fc.record({
        ms: fc.double({ min: 5, max: 200, noNaN: true }),
        tokens: fc.integer({ min: 1, max: 16 }),
      }),
      {
        minLength: 200,
        maxLength: 400,
      },
    );
    fc.assert(
      fc.property(runs, fc.double({ min: 0.5, max: 120, noNaN: true }), (all, ms) => {
        const { decoded, drawn } = simulate(all, () => ({ ms, late: 0 }));
        // One frame may be dearer than was thought before it.
        expect(drawn).toBeLessThanOrEqual(0.05 * decoded + ms);
      }),
    );
  });

  it('draws often where frames are cheap, seldom where they are dear', () => {
    const count = (ms: number) => simulate(steady(400, 80), () => ({ ms, late: 0 })).frames;
    expect(count(2)).toBeGreaterThan(350);
    expect(count(40)).toBeGreaterThan(20);
    expect(count(40)).toBeLessThan(40);
  });

  it('charges a frame with what decoding loses after it', () => {
    const { decoded, drawn, frames } = simulate(steady(2000, 80), () => ({ ms: 2, late: 30 }));
    expect(frames).toBeGreaterThan(100);
    expect(drawn / decoded).toBeLessThan(0.05);
  });

  it('does not save up for a burst', () => {
    let frames = 0;
    const governor = new Governor(0.04, 10);
    governor.decoded(100_000, 100, false);
    for (; governor.due; frames++) governor.drawn(10);
    expect(frames).toBe(1);
  });
});
