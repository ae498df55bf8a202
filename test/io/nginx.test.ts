/**
 * A real nginx, where there is one (Debian: nginx-light; .ci/install-nginx): a model over range requests, and what
 * happens when it is killed in the middle.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Nginx, nginxMissing } from '../../bench/lib/nginx.js';
import { PoolError } from '../../src/errors.js';
import { HttpFolder, HttpSource } from '../../src/io/http-source.js';
import { openCheckpoint, requireTensors } from '../../src/llama/checkpoint.js';
import { convertModel } from '../../src/llama/convert.js';
import { FolderSink } from '../../src/node/folder-sink.js';
import { DiskFolder } from '../../src/node/model-folder.js';
import { NodeFolder, STATESMAN } from '../llama/node-folder.js';

const missing = nginxMissing();
const QUICK = { retries: 2, backoffMs: 1 };

if (missing) {
  describe('a model behind nginx', () => {
    it.skip(`skipped: ${missing}`, () => {});
  });
} else {
  describe('a model behind nginx', () => {
    let folder: string;
    let nginx: Nginx;
    let disk: DiskFolder;

    beforeAll(async () => {
      folder = mkdtempSync(join(tmpdir(), 'pairslab-nginx-'));
      const sink = await FolderSink.at(join(folder, 'files'));
      await convertModel(new NodeFolder(STATESMAN), sink, { dtype: 'q8' });
      await sink.commit();
      disk = await DiskFolder.at(join(folder, 'files'));
      nginx = await Nginx.in(folder);
    });
    afterEach(() => nginx.kill());
    afterAll(async () => {
      await disk.close();
      rmSync(folder, { recursive: true, force: true });
    });

    it('is read as from the disk: headers, tensors, any rows', async () => {
      await nginx.start();
      const [far, near] = [
        await openCheckpoint(new HttpFolder(nginx.url, QUICK)),
        await openCheckpoint(disk),
      ];
      requireTensors(far);
      const name = 'model.layers.2.self_attn.o_proj.weight';
      const { shape } = near.info(name);
      expect(await far.read(name, shape)).toEqual(await near.read(name, shape));
      const options = { gapBytes: 2000 };
      const pools = [far, near].map(({ bundle }) => bundle?.pool('model.layers.3.mlp', options));
      const ids = Uint32Array.from({ length: 200 }, (_, i) => (i * 797) % 1536);
      const rows = await Promise.all(
        pools.map(async (pool) => {
          const into = new Uint8Array(ids.length * (pool?.rowBytes ?? 0));
          await pool?.read(ids, into);
          return into;
        }),
      );
      expect(Buffer.compare(rows[0], rows[1])).toBe(0);
      expect(pools[0]?.counts).toEqual(pools[1]?.counts);
      await expect(HttpSource.open(`${nginx.url}none.bin`)).rejects.toMatchObject({ code: 'missing' });
    });

    it('killed within a read: a typed error, and the same pool reads on once it is back', async () => {
      await nginx.start(200_000);
      const { bundle } = await openCheckpoint(new HttpFolder(nginx.url, QUICK));
      const pool = bundle?.pool('model.layers.0.mlp', { requestBytes: 100_000 });
      if (!pool) throw new Error('there is no such pool');
      const ids = Uint32Array.from({ length: pool.rows }, (_, row) => row);
      const into = new Uint8Array(ids.length * pool.rowBytes);
      let killed: Promise<void> | undefined;
      const error = await pool
        .read(ids, into, {
          onProgress: () => {
            killed ??= nginx.kill();
          },
        })
        .catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(PoolError);
      expect(error).toMatchObject({ code: 'network', details: { tries: 3 } });
      await killed;

      await nginx.start();
      await pool.read(ids, into);
      const near = await (await openCheckpoint(disk)).bundle?.pool('model.layers.0.mlp').toHost();
      expect(Buffer.compare(into, near?.bytes ?? Buffer.alloc(0))).toBe(0);
    });
  });
}
