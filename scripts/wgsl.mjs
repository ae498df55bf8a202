import { readFileSync } from 'node:fs';

/**
 * WGSL without comments and most spaces: a third less of it is published. Lines stay, and names, and one space of an
 * indent: the composer (src/gpu/kernel.ts) goes by lines, by what begins one and by the names of bindings; and a shader
 * that fails to compile can be read.
 * Spaces around operators stay, where two of them might become another (`a - -b`, `array<u32, 4> = …`).
 * @param {string} code
 */
export function minifyWgsl(code) {
  const lines = code
    .replace(/\/\/(?!@(?:slot|again)\b).*$/gm, '')
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => (/^(?:\/\/@|@)/.test(line) ? line.trim() : squeeze(line)));
  // The last line ends as well: texts are joined to one another.
  return `${lines.join('\n')}\n`;
}

function squeeze(line) {
  const body = line
    .trim()
    .replace(/\s*([{}()[\],;:])\s*/g, '$1')
    .replace(/(?<=[\w\])]) ([+\-*/%&|^<>=!]?=|[+\-*/%&|^<>]|&&|\|\||<<|>>) (?=[\w(])/g, '$1');
  return /^\s/.test(line) ? ` ${body}` : body;
}

/** For esbuild. */
export const wgslAsText = {
  name: 'wgsl-as-text',
  setup(build) {
    build.onLoad({ filter: /\.wgsl$/ }, ({ path }) => ({
      contents: minifyWgsl(readFileSync(path, 'utf8')),
      loader: 'text',
    }));
  },
};
