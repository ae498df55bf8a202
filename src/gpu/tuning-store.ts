import { TuningError } from '../errors.js';
import { pageStorage, SAVED } from './page-storage.js';
import { setTuning, type Tuning } from './tuning.js';
import { type TuningKey, tuningKeyOf } from './tuning-key.js';
import { parseTuning, serializeTuning } from './tuning-parse.js';

/** Where tunings are kept from one run to the next. What it gives back is not trusted. */
export interface TuningStore {
  /** What was saved under the key; null when nothing was. Throws when it cannot be read. */
  load(key: TuningKey): Promise<unknown>;
  save(key: TuningKey, value: object): Promise<void>;
}

/**
 * Sets what an earlier run saved for an adapter, driver, features and version like these.
 * @returns null when there is nothing, or nothing usable: that is logged, and `autotune` and `saveTuning` replace it.
 */
export async function loadTuning(
  device: GPUDevice,
  store: TuningStore,
  log: (message: string) => void = console.warn,
): Promise<Tuning | null> {
  const tuning = await readTuning(tuningKeyOf(device), store, log);
  setTuning(device, tuning);
  return tuning;
}

/** As `loadTuning`, for a key: nothing is set. */
export async function readTuning(
  key: TuningKey,
  store: TuningStore,
  log: (message: string) => void = console.warn,
): Promise<ReturnType<typeof parseTuning> | null> {
  try {
    const json = await store.load(key);
    if (json === null || json === undefined) return null;
    const tuning = parseTuning(json);
    if ((json as { key?: unknown }).key !== key.text)
      throw new TuningError('it was made on another adapter, driver or version.', { key: key.text });
    return tuning;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    log(`pairslab: the saved tuning is ignored: ${why} Defaults are used until \`autotune\` is run again.`);
    return null;
  }
}

/** Keeps `tuning` for devices like this one. */
export async function saveTuning(device: GPUDevice, store: TuningStore, tuning: Tuning): Promise<void> {
  const key = tuningKeyOf(device);
  await store.save(key, serializeTuning(tuning, key.text));
}

/** The page's localStorage; null where there is none (Node, a worker, a page that may not use it). */
export function browserStore(): TuningStore | null {
  const storage = pageStorage();
  if (!storage) return null;
  const name = ({ hash }: TuningKey): string => SAVED + hash;
  return {
    load: async (key) => {
      const text = storage.getItem(name(key));
      return text === null ? null : parseJson(text);
    },
    save: async (key, value) => storage.setItem(name(key), JSON.stringify(value)),
  };
}

/** @throws TuningError when `text` is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new TuningError('it is not JSON.', { length: text.length });
  }
}
