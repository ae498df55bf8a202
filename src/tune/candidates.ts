/**
 * Which of a kernel's variants are worth compiling. A table is made of groups that differ in one field (its axis, such
 * as `tile`), each with the same cuts in the same order. Compiling is what tuning spends its time on (up to two
 * seconds a variant on lavapipe), so not all are tried: every cut in the first group, the first cut in every group, and
 * then the best cut of the best group.
 */
export class Candidates<V extends object> {
  /** To be tried first; the default is the first of them. */
  readonly first: readonly V[];
  private readonly groups: readonly (readonly V[])[];

  constructor(variants: readonly V[], axis: string) {
    const groups = new Map<unknown, V[]>();
    for (const variant of variants) {
      const value = (variant as Record<string, unknown>)[axis];
      groups.set(value, [...(groups.get(value) ?? []), variant]);
    }
    this.groups = [...groups.values()];
    const [home, ...others] = this.groups;
    this.first = [...home, ...others.map(([variant]) => variant)];
  }

  /** By the times of the first ones (Infinity for what cannot run): one more to try, where it is none of them. */
  last(timeOf: (variant: V) => number): V | undefined {
    const [home] = this.groups;
    const cut = home.indexOf(least(home, timeOf));
    const group = least(
      this.groups.map((variants) => variants[0]),
      timeOf,
    );
    const last = this.groups.find(([variant]) => variant === group)?.[cut];
    return last && !this.first.includes(last) ? last : undefined;
  }
}

function least<T>(items: readonly T[], of: (item: T) => number): T {
  return items.reduce((best, item) => (of(item) < of(best) ? item : best));
}
