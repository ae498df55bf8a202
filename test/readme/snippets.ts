/** The README's TypeScript, each snippet with what it assumes, so that it can be checked and run as it stands. */
import { expect } from 'vitest';
import readme from '../../README.md?raw';
import { HostPool } from '../../src/pool/host-pool.js';
import { Bitmask } from '../../src/mask/index.js';
import { convertModel } from '../../src/llama/convert.js';
import { openCheckpoint } from '../../src/llama/checkpoint.js';
import { Sampler } from '../../src/llama/sample.js';
import { LlamaSession } from '../../src/llama/session.js';
import { loadWeights } from '../../src/llama/weights.js';
import { makeModel, smallModel } from '../support/make-model.js';
import { MemorySink } from '../support/memory-sink.js';

export interface Snippet {
  /** In this snippet and in no other. */
  readonly has: string;
  /** TypeScript that declares what it assumes. */
  readonly assumes: string;
  /** It needs another runtime: the worked example of which it is the gist, which test/runtimes type-checks and runs. */
  readonly elsewhere?: string;
  /** It needs files, a server, or Node's packages. */
  readonly node?: boolean;
  /** Runs it, and looks at what it made. */
  run(play: Play): Promise<void>;
}

export interface Play {
  readonly code: string;
  /** There where a device is. */
  readonly device: GPUDevice;
  /**
   * Runs `code` with these variables, and gives those that it declares and `gives` names.
   * @param modules Exports that stand for those of an entry.
   */
  execute(
    code: string,
    variables: Record<string, unknown>,
    gives: readonly string[],
    modules?: Record<string, object>,
    // biome-ignore lint/suspicious/noExplicitAny: what a text makes has the types that the README says.
  ): Promise<Record<string, any>>;
}

export function snippetsOf(text: string): string[] {
  return [...text.matchAll(/^```(?:ts|typescript)\n([\s\S]*?)^```$/gm)].map(([, code]) => code);
}

export const written = snippetsOf(readme);

/** Numbers from -1 to 1 that look random, the same each time. */
function values(length: number, seed: number): Float32Array<ArrayBuffer> {
  const made = new Float32Array(length);
  let state = seed >>> 0;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    made[i] = state / 2 ** 31 - 1;
  }
  return made;
}

const ROWS = 4096;
const HIDDEN = 1024;
/** The first snippets' layer. */
function layer() {
  return {
    gate: values(ROWS * HIDDEN, 1),
    up: values(ROWS * HIDDEN, 2),
    down: values(HIDDEN * ROWS, 3),
    x: values(HIDDEN, 4),
    scores: values(ROWS, 5),
  };
}

/** The first of y, in float64: the 512 rows with the highest scores, by down's columns. */
function expectLayer(
  y: Float32Array,
  { gate, up, down, x, scores }: ReturnType<typeof layer>,
  within: number,
) {
  expect(y).toHaveLength(HIDDEN);
  const rows = [...scores.keys()].sort((a, b) => scores[b] - scores[a]).slice(0, 512);
  const dot = (matrix: Float32Array, row: number): number => {
    let sum = 0;
    for (let k = 0; k < HIDDEN; k++) sum += matrix[row * HIDDEN + k] * x[k];
    return sum;
  };
  const active = rows.map((row) => {
    const g = dot(gate, row);
    return (g / (1 + Math.exp(-g))) * dot(up, row);
  });
  for (let h = 0; h < 8; h++) {
    const want = rows.reduce((sum, row, i) => sum + active[i] * down[h * ROWS + row], 0);
    expect(Math.abs(y[h] - want)).toBeLessThan(within * Math.hypot(...active));
  }
}

const LAYER =
  'declare const gate: Float32Array, up: Float32Array, down: Float32Array, x: Float32Array, scores: Float32Array;';

export const SNIPPETS: readonly Snippet[] = [
  {
    has: "strategy: 'paired' });",
    assumes: LAYER,
    async run({ code, device, execute }) {
      const given = layer();
      const navigator = { gpu: { requestAdapter: async () => ({ requestDevice: async () => device }) } };
      const { y } = await execute(code, { ...given, navigator }, ['y']);
      expectLayer(y, given, 1e-4);
    },
  },
  {
    has: "from 'pairslab/node';\n\nconst { device, adapter, destroy }",
    assumes: LAYER,
    node: true,
    async run({ code, execute }) {
      const given = layer();
      const { y } = await execute(code, { ...given, console: { log: () => {} } }, ['y']);
      expectLayer(y, given, 1e-2);
    },
  },
  {
    has: 'new Slab(pool, { capacity: 4096 })',
    assumes: "declare const device: GPUDevice, data: Float32Array, mask: import('pairslab').Bitmask;",
    async run({ code, device, execute }) {
      const data = values(5000 * 768, 6);
      const mask = Bitmask.fromIds([4999, 7, 1234], 5000);
      const gives = ['added', 'removed', 'writes', 'bytes', 'shape', 'slab', 'pool'];
      const { slab, pool, ...made } = await execute(code, { device, data, mask }, gives);
      expect(made).toEqual({ added: 3, removed: 0, writes: 3, bytes: 3 * 768 * 4, shape: [3, 768] });
      slab.destroy();
      pool.destroy();
    },
  },
  {
    has: 'https://example.com/model/',
    assumes: `declare const device: GPUDevice, data: Float32Array, down: Float32Array, mask: import('pairslab').Bitmask;
declare const signal: AbortSignal, onProgress: () => void;`,
    node: true,
    async run({ code, device, execute }) {
      const { FaultServer } = await import('../support/fault-server.js');
      const { cacheFolderFiles } = await import('../../src/node/cache-files.js');
      const { mkdtemp, rm } = await import('node:fs/promises');
      const { join } = await import('node:path');
      const { tmpdir } = await import('node:os');
      const sink = new MemorySink();
      await convertModel(
        makeModel({ hidden: 16, intermediate: ROWS, layers: 1, heads: 2, vocab: 16 }),
        sink,
        {
          dtype: 'f32',
        },
      );
      const server = await FaultServer.start(Object.fromEntries(sink.folder.files));
      const folder = await mkdtemp(join(tmpdir(), 'pairslab-readme-'));
      try {
        const told: number[] = [];
        const { far, ring, host } = await execute(
          code.replace('https://example.com/model/', server.url()),
          {
            device,
            data: values(ROWS * 768, 7),
            down: values(768 * ROWS, 8),
            mask: Bitmask.fromIds([5, 4000], ROWS),
            signal: new AbortController().signal,
            onProgress: (bytes: number) => told.push(bytes),
          },
          ['far', 'ring', 'host'],
          { 'pairslab/node': { cacheFolderFiles: () => cacheFolderFiles(folder) } },
        );
        expect(host).toBeInstanceOf(HostPool);
        expect([...far.mask().ids()]).toEqual([5, 4000]);
        expect(told.length).toBeGreaterThan(0);
        far.destroy();
        ring.destroy();
      } finally {
        await server.close();
        await rm(folder, { recursive: true, force: true });
      }
    },
  },
  {
    has: 'new Residency({ rows: 8192',
    assumes: "declare const mask: import('pairslab').Bitmask;",
    async run({ code, execute }) {
      const ids = Array.from({ length: 5000 }, (_, i) => i);
      const { residency } = await execute(code, { mask: Bitmask.fromIds(ids, 8192) }, ['residency']);
      // More than there are slots, so in pieces; the last of them is there.
      expect(residency.map.resident.has(4999)).toBe(true);
    },
  },
  {
    has: 'await recovering(mlp, recover',
    assumes: `${LAYER}
declare let device: GPUDevice;
declare const hidden: number, mask: import('pairslab').Bitmask, promptIds: number[];
declare const session: import('pairslab/llama').LlamaSession, sampler: import('pairslab/llama').Sampler;`,
    async run({ code, device, execute }) {
      const weights = await loadWeights(device, await openCheckpoint(smallModel()));
      const session = new LlamaSession(device, weights);
      const given = {
        ...{
          device,
          hidden: 8,
          gate: values(24, 9),
          up: values(24, 10),
          down: values(24, 11),
          x: values(8, 12),
        },
        ...{ mask: Bitmask.full(3), session, sampler: new Sampler(), promptIds: [1, 2, 3] },
      };
      const short = code.replace('maxTokens: 200', 'maxTokens: 5');
      const { y, tokens, mlp } = await execute(short, given, ['y', 'tokens', 'mlp']);
      expect(y).toHaveLength(8);
      expect(tokens).toHaveLength(5);
      mlp.destroy();
      session.destroy();
      weights.destroy();
    },
  },
  ...Object.entries({
    'pairslab/onnxruntime': 'onnxruntime',
    'pairslab/transformers': 'transformers',
    'pairslab/worker': 'worker',
  }).map(([entry, example]) => ({
    has: `from '${entry}';`,
    assumes: '',
    elsewhere: `docs/examples/${example}.ts`,
    run: () => Promise.reject(new Error('it is run elsewhere')),
  })),
];

export function snippetOf(code: string): Snippet {
  const found = SNIPPETS.filter(({ has }) => code.includes(has));
  if (found.length === 1) return found[0];
  throw new Error(
    `test/readme/snippets.ts has ${found.length} entries for this snippet of README.md; it needs one:\n${code}`,
  );
}
