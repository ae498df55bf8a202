import { describe, expect, it } from 'vitest';
import { minifyWgsl } from '../../scripts/wgsl.mjs';
import { compose, type KernelTable, type Variant } from '../../src/gpu/kernel.js';
import * as llama from '../../src/llama/kernels.js';
import * as fused from '../../src/mlp/fused-update.js';
import * as mlp from '../../src/mlp/kernels.js';
import * as model from '../../src/mlp/model-kernels.js';
import * as slab from '../../src/slab/kernels.js';
import * as select from '../../src/slab/select-kernels.js';
import * as staged from '../../src/slab/staged-kernels.js';

const isTable = (value: unknown): value is KernelTable =>
  typeof value === 'object' && value !== null && 'code' in value && 'slots' in value;
const tables = [llama, mlp, fused, model, slab, staged, select].flatMap((module) =>
  Object.values(module).filter(isTable),
);

/** What is left of WGSL for a compiler: its tokens, longest first where one is the beginning of another. */
function tokens(code: string): string[] {
  const bare = code.replace(/\/\/.*$/gm, '');
  return (
    bare.match(
      /[A-Za-z_]\w*|(?:0[xX][\da-fA-F]+|\d*\.?\d+(?:[eE][+-]?\d+)?)\w*|<<=|>>=|->|&&|\|\||<<|>>|[-+*/%&|^<>=!]=|\+\+|--|\S/g,
    ) ?? []
  );
}

function minified(table: KernelTable): KernelTable {
  const slots = Object.entries(table.slots).map(([slot, choices]) => [
    slot,
    Object.fromEntries(Object.entries(choices).map(([name, text]) => [name, minifyWgsl(`${text}`)])),
  ]);
  return { ...table, code: minifyWgsl(table.code), slots: Object.fromEntries(slots) };
}

/** Each choice of each slot once, the other slots at their first. */
function variants(table: KernelTable): Variant[] {
  const first = Object.fromEntries(
    Object.entries(table.slots).map(([slot, all]) => [slot, Object.keys(all)[0]]),
  );
  const others = Object.entries(table.slots).flatMap(([slot, all]) =>
    Object.keys(all)
      .slice(1)
      .map((choice) => ({ slots: { ...first, [slot]: choice } })),
  );
  return [{ slots: first }, ...others];
}

describe('WGSL as it is published', () => {
  it.each(tables)('$name: the tokens of its source, in every choice', (table) => {
    const small = minified(table);
    for (const variant of variants(table))
      expect(tokens(compose(small, variant)), JSON.stringify(variant)).toEqual(
        tokens(compose(table, variant)),
      );
  });

  it('keeps what might become another token, and what the composer reads', () => {
    const code = [
      '// gone',
      '//@slot rows',
      'let a = b - -c; // gone',
      '  var<private> t: array<u32, 4> = array<u32, 4>();',
      '@group(0) @binding(1) var<uniform> params: Params;',
    ].join('\n');
    expect(minifyWgsl(code)).toBe(
      [
        '//@slot rows',
        'let a=b - -c;',
        ' var<private> t:array<u32,4> = array<u32,4>();',
        '@group(0) @binding(1) var<uniform> params: Params;',
        '',
      ].join('\n'),
    );
  });
});
