import { expect, it } from 'vitest';
import { spoken, TimeLeft } from '../../bench/lib/time-left.js';

it('takes the cases to come to last as long as those that were measured', () => {
  const time = new TimeLeft();
  time.at(0, 10, 1000);
  expect(time.left(1500)).toBeNull();
  time.at(1, 10, 2000);
  expect(time.left(2000)).toBe(9000);
  // The one that runs has had some of its time, and then all of it.
  expect(time.left(2600)).toBe(8400);
  expect(time.left(9000)).toBe(8000);
  time.at(2, 10, 5000);
  expect(time.left(5000)).toBe(8 * 2000);
});

it('leaves out cases that were kept or skipped', () => {
  const time = new TimeLeft();
  for (let done = 0; done < 5; done++) time.at(done, 8, done);
  expect(time.left(4)).toBeNull();
  time.at(5, 8, 3004);
  expect(time.left(3004)).toBe(3 * 3000);
});

it('starts anew with another part, and is not confused by the same case said twice', () => {
  const time = new TimeLeft();
  time.at(0, 2, 0);
  time.at(1, 2, 100);
  time.at(1, 2, 150);
  expect(time.left(150)).toBe(50);
  time.at(0, 4, 200);
  expect(time.left(300)).toBeNull();
  time.at(1, 4, 700);
  expect(time.left(700)).toBe(1500);
});

it('is said as a person would', () => {
  expect([400, 61_000, 720_000, 12_600_000].map(spoken)).toEqual(['1 s', '61 s', '12 min', '3.5 h']);
});
