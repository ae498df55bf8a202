/** The same contest in a browser: `peers.open`, then `peers.run` for a task at a time. */
import { contest } from './contest.ts';
import * as jax from './jax.mjs';
import * as onnxruntime from './onnxruntime.mjs';
import { pairslabRuntime } from './pairslab.ts';
import * as tfjs from './tfjs.mjs';
import { makeTask, makeWeights } from './work.ts';

/** What a layer of this size needs more of than WebGPU promises. */
const LIMITS = ['maxBufferSize', 'maxStorageBufferBindingSize'];
const FEATURES = ['shader-f16', 'subgroups'];

const runtimes = [];
let weights;

globalThis.peers = {
  /** @returns what the browser runs on, and which peers it cannot run. */
  async open(host) {
    const adapter = await navigator.gpu?.requestAdapter();
    if (!adapter) throw new Error('this browser gives no WebGPU adapter');
    const device = await adapter.requestDevice({
      requiredFeatures: FEATURES.filter((feature) => adapter.features.has(feature)),
      requiredLimits: Object.fromEntries(LIMITS.map((limit) => [limit, adapter.limits[limit]])),
    });
    weights = makeWeights();
    runtimes.push(pairslabRuntime(device, host.storage));
    const missing = {};
    for (const [name, peer] of Object.entries({ tfjs, onnxruntime, jax })) {
      try {
        runtimes.push(await peer.open(host));
      } catch (error) {
        missing[name] = String(error);
      }
    }
    const { vendor, architecture, description } = adapter.info;
    return { adapter: { vendor, architecture, description }, browser: navigator.userAgent, missing };
  },
  /** `say` is the harness's. */
  run: (name, limits) => contest(makeTask(name, weights), runtimes, limits, globalThis.say),
};
