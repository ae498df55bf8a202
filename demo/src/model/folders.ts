import { ModelFormatError, OptionError } from '../../../src/index.js';
import { BlobSource, type ByteSource, HttpFolder, type ModelFolder } from '../../../src/pool/index.js';

/** What is kept of a model in memory, so that another dtype or budget needs no download; larger ones are read again. */
const KEPT_BYTES = 256 << 20;
/** Of a file whose server knows no ranges: any web server can host a small model. */
const MOST_WHOLE_BYTES = 1 << 30;

/**
 * A folder whose reads are counted, and kept as long as they are few: a switch loads the same tensors again.
 * `onBytes` gets all bytes read so far.
 */
export class KeptFolder implements ModelFolder {
  readonly name: string;
  private readonly inner: ModelFolder;
  private readonly onBytes: (bytes: number) => void;
  private readonly sources = new Map<string, Promise<ByteSource | null>>();
  private readonly kept = new Map<string, Uint8Array<ArrayBuffer>>();
  private keptBytes = 0;
  private read = 0;

  constructor(inner: ModelFolder, onBytes: (bytes: number) => void) {
    this.name = inner.name;
    this.inner = inner;
    this.onBytes = onBytes;
  }

  open(file: string): Promise<ByteSource | null> {
    let source = this.sources.get(file);
    if (!source) {
      source = this.inner.open(file).then((found) => found && this.counting(found));
      this.sources.set(file, source);
      source.catch(() => this.sources.delete(file));
    }
    return source;
  }

  private counting(source: ByteSource): ByteSource {
    const { name, size } = source;
    return {
      name,
      size,
      read: async (offset, length, options) => {
        const key = `${name} ${offset} ${length}`;
        let bytes = this.kept.get(key);
        if (!bytes) {
          bytes = await source.read(offset, length, options);
          this.read += bytes.length;
          this.onBytes(this.read);
          if (this.keptBytes + bytes.length <= KEPT_BYTES) {
            this.keptBytes += bytes.length;
            this.kept.set(key, bytes);
          }
        }
        // Whoever reads may change what it got.
        return bytes.slice();
      },
    };
  }
}

/** The files that someone dropped or chose. */
class FileFolder implements ModelFolder {
  readonly name: string;
  private readonly files: ReadonlyMap<string, File>;

  constructor(name: string, files: ReadonlyMap<string, File>) {
    this.name = name;
    this.files = files;
  }

  async open(file: string): Promise<ByteSource | null> {
    const found = this.files.get(file);
    return found ? new BlobSource(found) : null;
  }
}

/**
 * Files with their paths as a model folder: those beside the one config.json.
 * @throws ModelFormatError when there is none, or several.
 */
export function folderOfFiles(files: readonly { path: string; file: File }[]): ModelFolder {
  const folders = files
    .filter(({ path }) => nameOf(path) === 'config.json')
    .map(({ path }) => parentOf(path));
  if (folders.length !== 1) {
    throw new ModelFormatError(
      `${files.length} files were given, ${folders.length} of them called config.json. Give one model: its ` +
        'config.json, tokenizer.json and model.safetensors (or its shards with their index), or the folder they are in.',
      { files: files.length, configs: folders.length },
    );
  }
  const [folder] = folders;
  const beside = files.filter(({ path }) => parentOf(path) === folder);
  const name = nameOf(folder.replace(/\/$/, '')) || 'your files';
  return new FileFolder(name, new Map(beside.map(({ path, file }) => [nameOf(path), file])));
}

const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/') + 1);
const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

/** The files of a drop, folders walked through. */
export async function droppedFiles(data: DataTransfer): Promise<{ path: string; file: File }[]> {
  // All entries before the first wait: the browser clears the list when the event is over.
  const entries = [...data.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  const found: { path: string; file: File }[] = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

/** A model folder has few files: more is something else, dropped by mistake. */
const MOST_FILES = 10_000;

async function walk(entry: FileSystemEntry, found: { path: string; file: File }[]): Promise<void> {
  if (found.length >= MOST_FILES)
    throw new ModelFormatError(`more than ${MOST_FILES} files were dropped: no model has as many.`);
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) =>
      (entry as FileSystemFileEntry).file(resolve, reject),
    );
    found.push({ path: entry.fullPath, file });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // It gives a part of the folder at a time, and nothing at the end.
    const part = await new Promise<FileSystemEntry[]>((resolve, reject) =>
      reader.readEntries(resolve, reject),
    );
    if (part.length === 0) return;
    for (const child of part) await walk(child, found);
  }
}

/**
 * A model's address: any URL of a folder, a page of a Hugging Face repository, or `owner/name` there.
 * @throws OptionError for anything else.
 */
export function folderAt(address: string): ModelFolder {
  const text = address.trim();
  const repo = /^[\w.-]+\/[\w.-]+$/.test(text) ? `https://huggingface.co/${text}` : text;
  let url: URL;
  try {
    url = new URL(repo);
  } catch {
    throw new OptionError(
      `"${text.slice(0, 200)}" is no address of a model: give https://… of its folder, or owner/name on Hugging Face.`,
    );
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw new OptionError(`a model is loaded over https: or http:, not ${url.protocol}`);
  const page = /^\/[\w.-]+\/[\w.-]+(?=\/?$)/.exec(url.pathname);
  const tree = /^(\/[\w.-]+\/[\w.-]+)\/tree\/([^/]+)\/?$/.exec(url.pathname);
  if (url.hostname === 'huggingface.co') {
    if (page) url.pathname = `${page[0]}/resolve/main/`;
    else if (tree) url.pathname = `${tree[1]}/resolve/${tree[2]}/`;
  }
  return new HttpFolder(url, { wholeBytes: MOST_WHOLE_BYTES });
}
