export async function ensureLoader(): Promise<void> {}
