/** Text from a model whose rows a real nginx serves (Debian: nginx-light; .ci/install-nginx), which is killed meanwhile. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Nginx, nginxMissing } from '../../../bench/lib/nginx.js';
import { PoolError } from '../../../src/errors.js';
import { HttpFolder } from '../../../src/io/http-source.js';
import { openCheckpoint } from '../../../src/llama/checkpoint.js';
import { convertModel } from '../../../src/llama/convert.js';
import { LlamaSession, type SessionOptions } from '../../../src/llama/session.js';
import { type LoadOptions, loadWeights } from '../../../src/llama/weights.js';
import { FolderSink } from '../../../src/node/folder-sink.js';
import { nodeTransport } from '../../../src/node/http-transport.js';
import { describeAdapters } from '../../support/adapters.js';
import { argmax } from '../../support/llama-twin.js';
import { smallModel } from '../../support/make-model.js';

const PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5];
const missing = nginxMissing();

describeAdapters('text from rows behind nginx', (ctx) => {
  if (missing !== null) {
    it.skip(`skipped: ${missing}`, () => {});
    return;
  }
  let folder: string;
  let nginx: Nginx;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'pairslab-served-'));
    const sink = await FolderSink.at(join(folder, 'files'));
    await convertModel(smallModel(), sink, { dtype: 'f32' });
    await sink.commit();
    nginx = await Nginx.in(folder);
  });
  afterEach(() => nginx.kill());
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  async function withSession(
    load: LoadOptions,
    options: SessionOptions,
    use: (session: LlamaSession) => Promise<void>,
  ): Promise<void> {
    const quick = { retries: 1, backoffMs: 1, transport: nodeTransport };
    const weights = await loadWeights(
      ctx.device,
      await openCheckpoint(new HttpFolder(nginx.url, quick)),
      load,
    );
    const session = new LlamaSession(ctx.device, weights, { prefillChunk: 8, ...options });
    try {
      await use(session);
    } finally {
      session.destroy();
      weights.destroy();
    }
  }

  async function whole(): Promise<number[]> {
    const tokens: number[] = [];
    await withSession({}, { strategy: 'indexed' }, async (session) => {
      tokens.push(argmax(await session.prefill(PROMPT)));
      for (let i = 0; i < 10; i++) tokens.push(...(await session.greedy(tokens[4 * i], 4)).tokens);
    });
    return tokens;
  }

  it.each([false, true])(
    'fails with its reason when nginx is killed, and goes on when it is back (prefetch: %s)',
    async (prefetch) => {
      await nginx.start();
      const want = await whole();
      await withSession(
        { budget: { share: 0.5 }, pool: 'file' },
        { residency: { prefetch } },
        async (session) => {
          const tokens = [argmax(await session.prefill(PROMPT))];
          const go = async (count: number) => {
            tokens.push(...(await session.greedy(tokens[tokens.length - 1], count)).tokens);
          };
          await go(4);
          await nginx.kill();
          let error: unknown = null;
          // Tokens whose rows are all there still come.
          while (error === null && tokens.length < 20)
            error = await go(1).then(
              () => null,
              (caught: unknown) => caught,
            );
          expect(error).toBeInstanceOf(PoolError);
          expect(error).toMatchObject({ code: 'network', details: { tries: 2 } });
          expect(session.position).toBe(PROMPT.length + tokens.length - 1);
          await expect(go(4), 'again, and without hanging').rejects.toBeInstanceOf(PoolError);
          await nginx.start();
          while (tokens.length < 37) await go(4);
          expect(tokens).toEqual(want.slice(0, tokens.length));
        },
      );
    },
  );

  it('needs no nginx for rows that are resident', async () => {
    await nginx.start();
    const want = await whole();
    await withSession({ budget: { share: 1 }, pool: 'file' }, {}, async (session) => {
      for (const alive of [true, false]) {
        if (!alive) await nginx.kill();
        session.reset();
        const tokens = [argmax(await session.prefill(PROMPT))];
        for (let i = 0; i < 4; i++) tokens.push(...(await session.greedy(tokens[4 * i], 4)).tokens);
        expect(tokens).toEqual(want.slice(0, tokens.length));
      }
    });
  });
});
