import { pageStorage, SAVED } from './page-storage.js';
import { setTuning, tuningSettled } from './tuning.js';

/**
 * Once a device, where nobody chose a tuning or none: what an earlier visit of the page saved. What reads it is loaded
 * only where something was saved; where it cannot be loaded, the defaults do.
 */
export async function loadTuningOnce(device: GPUDevice): Promise<void> {
  if (tuningSettled(device)) return;
  const storage = pageStorage();
  if (storage && Object.keys(storage).some((name) => name.startsWith(SAVED))) {
    try {
      const { browserStore, loadTuning } = await import('./tuning-store.js');
      const store = browserStore();
      if (store) await loadTuning(device, store);
      return;
    } catch (error) {
      console.warn('pairslab: the saved tuning cannot be read.', error);
    }
  }
  setTuning(device, null);
}
