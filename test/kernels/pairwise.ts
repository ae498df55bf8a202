/** Few cases that together have every pair of choices: most faults of variants come from one choice or from two. */

type Factors = Readonly<Record<string, readonly unknown[]>>;
export type Case<F extends Factors> = { readonly [K in keyof F]: F[K][number] };

/** Every pair of choices of two factors that some allowed case can have, as text. */
export function pairsOf<F extends Factors>(one: Case<F>): string[] {
  const entries = Object.entries(one);
  return entries.flatMap(([a, x], i) => entries.slice(i + 1).map(([b, y]) => `${a}=${x} ${b}=${y}`));
}

/**
 * Greedy and canonical: again and again the best of many random allowed cases, until the pairs run out that were seen
 * in any of them.
 */
export function pairwise<const F extends Factors>(
  factors: F,
  random: () => number,
  allowed: (one: Case<F>) => boolean = () => true,
): Case<F>[] {
  const draw = (): Case<F> => {
    for (;;) {
      const one = Object.fromEntries(
        Object.entries(factors).map(([name, choices]) => [
          name,
          choices[Math.floor(random() * choices.length)],
        ]),
      ) as Case<F>;
      if (allowed(one)) return one;
    }
  };
  const pool = Array.from({ length: 3000 }, draw).map((one) => ({ one, pairs: pairsOf<F>(one) }));
  const open = new Set(pool.flatMap(({ pairs }) => pairs));
  const cases: Case<F>[] = [];
  while (open.size > 0) {
    let best = pool[0];
    let most = 0;
    for (const entry of pool) {
      let count = 0;
      for (const pair of entry.pairs) if (open.has(pair)) count++;
      if (count > most) [best, most] = [entry, count];
    }
    for (const pair of best.pairs) open.delete(pair);
    cases.push(best.one);
  }
  return cases;
}

/** A case as a test's name. */
export function nameOf(one: Readonly<Record<string, unknown>>): string {
  return Object.entries(one)
    .map(([name, choice]) => `${name} ${choice}`)
    .join(', ');
}
