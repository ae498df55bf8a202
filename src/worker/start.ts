/** A worker that serves models as soon as it runs. */
import type { Endpoint } from './protocol.js';
import { serve } from './serve.js';

serve(globalThis as unknown as Endpoint);
