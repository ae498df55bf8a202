import { AdapterError, PairslabError } from '../../src/index.js';

/** An element of the page that must be there. */
export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as T;
}

/** What to do about an error, by its class. */
const ADVICE: Readonly<Record<string, string>> = {
  ModelFormatError:
    'The files are damaged, or are no model: a page that says “not found” is often served in place of one.',
  UnsupportedModelError:
    'Choose a model of the LLaMA family, as it was published: neither quantised nor changed.',
  DeviceLimitError: 'Store the weights in fewer bits, or keep fewer rows on the device.',
  PoolError: 'Check the address, and that its server answers range requests from other pages.',
  AdapterError: 'Write again in a while, or reload the page.',
  DeviceLostError: 'The device was lost again and again: write again, or reload the page.',
};

/** Shows an error as what it is. Texts of models and servers may be in it: they are never more than text. */
export function showError(error: unknown): void {
  const name = error instanceof Error ? error.name : 'Error';
  const message = error instanceof Error ? error.message : String(error);
  element('error-name').textContent = name;
  element('error-message').textContent = message.slice(0, 2000);
  element('error-advice').textContent = ADVICE[name] ?? '';
  element('error').hidden = false;
  if (!(error instanceof PairslabError)) console.error(error);
}

export function clearError(): void {
  element('error').hidden = true;
}

/** The page in place of which there is none without WebGPU. */
export function showUnsupported(error: unknown): void {
  if (!(error instanceof AdapterError)) throw error;
  element('unsupported-why').textContent = error.message;
  element('unsupported').hidden = false;
  element('app').hidden = true;
}
