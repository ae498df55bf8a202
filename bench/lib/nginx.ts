import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';

// Debian has it where only root's path leads.
const ENV = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` };

/** Why there is no nginx to start; null where there is one. */
export function nginxMissing(): string | null {
  return spawnSync('nginx', ['-v'], { env: ENV }).error
    ? 'nginx is not installed (see .ci/install-nginx)'
    : null;
}

const freePort = () =>
  new Promise<number>((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });

/** A real nginx that serves `folder`/files, on a port that it keeps when it is started again. */
export class Nginx {
  readonly url: string;
  private readonly folder: string;
  private readonly port: number;
  private child?: ChildProcess;

  /** @param folder For its files; what it needs besides goes there too. */
  static async in(folder: string): Promise<Nginx> {
    return new Nginx(folder, await freePort());
  }

  private constructor(folder: string, port: number) {
    this.folder = folder;
    this.port = port;
    this.url = `http://127.0.0.1:${port}/`;
  }

  /** `slow`: at so many bytes a second and request. */
  async start(slow?: number): Promise<void> {
    const { folder, port } = this;
    mkdirSync(join(folder, 'temp'), { recursive: true });
    const temp = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
      .map((what) => `${what}_temp_path ${folder}/temp;`)
      .join(' ');
    const location = `root ${folder}/files; ${slow ? `limit_rate ${slow};` : ''}`;
    const conf = join(folder, 'nginx.conf');
    writeFileSync(
      conf,
      `daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error.log;
       events {} http { access_log off; ${temp} server { listen 127.0.0.1:${port}; ${location} } }`,
    );
    this.child = spawn('nginx', ['-c', conf, '-p', folder, '-e', join(folder, 'error.log')], {
      env: ENV,
      stdio: 'ignore',
    });
    for (;;) {
      if (this.child.exitCode !== null) throw new Error(`nginx ended with ${this.child.exitCode}`);
      const answer = await fetch(this.url).catch(() => null);
      if (answer) break;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async kill(): Promise<void> {
    const { child } = this;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }
}
