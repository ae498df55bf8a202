/** The mean of equal shapes: of numbers, and so of lists and objects of them; null where any is null. */
export function meanOver<T>(all: readonly T[]): T {
  const [first] = all;
  if (all.some((one) => one === null)) return null as T;
  if (typeof first === 'number') return (all.reduce((sum, one) => sum + Number(one), 0) / all.length) as T;
  if (Array.isArray(first))
    return first.map((_, i) => meanOver(all.map((one) => (one as unknown[])[i]))) as T;
  if (typeof first === 'object') {
    const entries = Object.keys(first as object).map((name) => [
      name,
      meanOver(all.map((one) => (one as Record<string, unknown>)[name])),
    ]);
    return Object.fromEntries(entries) as T;
  }
  return first;
}
