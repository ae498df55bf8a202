// The loader is opened in the running process (see drivers.ts), so nothing is started again. Delete this file once
// cli.ts imports `ensureLoader` from './drivers.js', or leaves it to `requestDevice`, which calls it.
export { ensureLoader } from './drivers.js';
