/** Ids, ascending, of the rows that are active: whose value is not zero. values [N]. */
export function compact(values: ArrayLike<number>): number[] {
  const ids: number[] = [];
  for (let i = 0; i < values.length; i++) if (values[i] !== 0) ids.push(i);
  return ids;
}
