import { describe, expect, it } from 'vitest';
import { race } from '../../src/tune/race.js';

/** Contenders that take these times, and how often each was called. */
function runners(times: readonly (number | (() => number))[]) {
  const calls = times.map(() => 0);
  const contenders = times.map((time, i) => async () => {
    calls[i]++;
    return typeof time === 'number' ? time : time();
  });
  return { contenders, calls };
}

const run = (
  times: readonly (number | (() => number))[],
  first: readonly number[],
  expired = () => false,
) => {
  const { contenders, calls } = runners(times);
  return race(contenders, first, { repeats: 3, expired }).then((result) => ({ ...result, calls }));
};

describe('race', () => {
  it('finds the fastest and how much it gains', async () => {
    const times = [2, 3, 1, 1.5, 1.2, 1.9];
    expect(await run(times, times)).toMatchObject({ winner: 2, speedup: 2, ms: 1, decided: true });
  });

  it('looks no more at what is hopeless at first sight', async () => {
    const times = [1, 10, 0.5, 1.1];
    const { calls } = await run(times, times);
    expect(calls[1]).toBe(0);
    expect(calls[3]).toBe(0);
  });

  it('stays with the default for less than the margin', async () => {
    expect(await run([1, 0.97], [1, 0.97])).toMatchObject({ winner: 0, speedup: 1 });
    expect(await run([1, 0.9], [1, 0.9])).toMatchObject({ winner: 1 });
  });

  it('lets only the final decide: luck at first is not enough', async () => {
    expect(await run([1, 1.01], [1, 0.6])).toMatchObject({ winner: 0, decided: true });
  });

  it('stays with the default for gains that come and go', async () => {
    let n = 0;
    // Slower in two of five pairs.
    const fickle = () => (n++ % 5 < 2 ? 1.2 : 0.8);
    expect(await run([1, fickle], [1, 0.9])).toMatchObject({ winner: 0 });
  });

  it('stays with the default when time is up, and says so', async () => {
    expect(await run([1, 0.5], [1, 0.5], () => true)).toMatchObject({
      winner: 0,
      speedup: 1,
      decided: false,
    });
    expect(await run([1, 0.5, 0.6, 0.7], [1, 0.5, 0.6, 0.7], () => true)).toMatchObject({ decided: false });
  });

  it('has nothing to run with one contender', async () => {
    expect(await run([1], [1])).toMatchObject({ winner: 0, decided: true, calls: [0] });
  });
});
