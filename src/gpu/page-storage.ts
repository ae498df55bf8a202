/** What the names of saved tunings begin with. */
export const SAVED = 'pairslab tuning ';

/** The page's localStorage; undefined where there is none (Node, a worker, a page that may not use it). */
export function pageStorage(): Storage | undefined {
  const host = globalThis as {
    window?: unknown;
    process?: { versions?: { node?: string } };
    localStorage?: Storage;
  };
  // Node has one too, from 25 on, and warns when it is touched.
  if (host.window === undefined || host.process?.versions?.node) return undefined;
  try {
    return host.localStorage;
  } catch {
    return undefined; // a page whose cookies are blocked may not even look
  }
}
