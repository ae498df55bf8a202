import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { OptionError, PairslabError } from '../../src/errors.js';
import { type Provenance, writeWhole } from './report.js';

/** A file of partial results is damaged. It is left as it was. */
export class PartialFileError extends PairslabError {}

/** Kept results stand for these conditions only: with another of any of them a case is measured again. */
const IDENTITY = [
  'version',
  'commit',
  'adapter',
  'device',
  'driver',
  'robustness',
  'timer',
  'settings',
  'quick',
  'full',
  'storage',
] as const satisfies readonly (keyof Provenance)[];

const FORMAT = 'pairslab bench, partial';

/** FILE.partial. */
interface PartialFile {
  format: typeof FORMAT;
  provenance: Provenance;
  kept: Record<string, unknown>;
}

export interface KeptOptions {
  /** The report's file; partial results stand in FILE.partial. Without it nothing outlives the process. */
  file?: string;
  resume: boolean;
  warn(line: string): void;
}

/** What a run has measured so far, written after every case, so that an interrupted run can go on where it was. */
export class Kept {
  /** null: kept in memory only. */
  readonly path: string | null;
  private readonly provenance: Provenance;
  private readonly kept: Map<string, unknown>;

  private constructor(path: string | null, provenance: Provenance, kept: Map<string, unknown>) {
    this.path = path;
    this.provenance = provenance;
    this.kept = kept;
  }

  /** @throws PartialFileError when the file to resume from cannot be read; OptionError when there is none to name. */
  static open(provenance: Provenance, { file, resume, warn }: KeptOptions): Kept {
    if (file === undefined) {
      if (resume) throw new OptionError('--resume needs --json FILE: what was measured stands beside it.');
      return new Kept(null, provenance, new Map());
    }
    const path = `${file}.partial`;
    if (!existsSync(path)) {
      if (resume) warn(`${path} does not exist: nothing to resume, measuring everything.`);
      return new Kept(path, provenance, new Map());
    }
    if (!resume) {
      warn(
        `an interrupted run's ${path} is moved to ${moveAside(path)}; --resume would have gone on with it.`,
      );
      return new Kept(path, provenance, new Map());
    }
    const partial = readPartial(path);
    const other = IDENTITY.find(
      (name) => JSON.stringify(partial.provenance[name]) !== JSON.stringify(provenance[name]),
    );
    if (other !== undefined) {
      const [was, is] = [partial.provenance[other], provenance[other]].map((value) => JSON.stringify(value));
      warn(`${path} was measured with ${other} ${was}, this run has ${is}: measuring everything.`);
      warn(`the file is moved to ${moveAside(path)}.`);
      return new Kept(path, provenance, new Map());
    }
    if (provenance.dirty || partial.provenance.dirty)
      warn(
        `the code has uncommitted changes: whether ${path} was measured with the same code is yours to know.`,
      );
    return new Kept(path, provenance, new Map(Object.entries(partial.kept)));
  }

  get size(): number {
    return this.kept.size;
  }

  has(key: string): boolean {
    return this.kept.has(key);
  }

  get(key: string): unknown {
    return this.kept.get(key);
  }

  set(key: string, value: unknown): void {
    this.kept.set(key, value);
    this.write();
  }

  /** A suite's outcome holds what its cases gave: they are kept no longer. */
  replace(prefix: string, key: string, value: unknown): void {
    for (const old of this.kept.keys()) if (old.startsWith(prefix)) this.kept.delete(old);
    this.set(key, value);
  }

  /** The run is complete: its report holds everything. */
  remove(): void {
    if (this.path) rmSync(this.path, { force: true });
  }

  private write(): void {
    if (!this.path) return;
    const { provenance } = this;
    const partial: PartialFile = { format: FORMAT, provenance, kept: Object.fromEntries(this.kept) };
    writeWhole(this.path, `${JSON.stringify(partial)}\n`);
  }
}

/** Never overwrites: the name carries the time. @returns the new name. */
function moveAside(path: string): string {
  const aside = `${path}.${new Date().toISOString().replaceAll(':', '-')}`;
  renameSync(path, aside);
  return aside;
}

function readPartial(path: string): PartialFile {
  const damaged = (why: string): PartialFileError =>
    new PartialFileError(
      `${path} ${why}; nothing was changed. Mend it, move it away, or run without --resume.`,
      { file: path },
    );
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw damaged(`cannot be read (${(error as Error).message})`);
  }
  if (!isRecord(json) || json.format !== FORMAT || !isRecord(json.provenance) || !isRecord(json.kept))
    throw damaged('is not a file of partial bench results');
  return json as unknown as PartialFile;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
