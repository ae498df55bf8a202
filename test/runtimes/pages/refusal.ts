import { PairslabError } from '../../../src/index.js';

/** The typed error that `work` throws, as text. */
export async function refusal(work: () => unknown): Promise<string> {
  try {
    await work();
  } catch (error) {
    if (error instanceof PairslabError) return `${error.name}: ${error.message}`;
    throw error;
  }
  return 'no error';
}
