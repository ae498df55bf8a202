import { describe, expect, it } from 'vitest';
import { OptionError } from '../../src/errors.js';
import { compose, foldGrid, type KernelTable, kernel } from '../../src/gpu/kernel.js';
import * as llama from '../../src/llama/kernels.js';
import * as fused from '../../src/mlp/fused-update.js';
import * as mlp from '../../src/mlp/kernels.js';
import * as model from '../../src/mlp/model-kernels.js';
import * as threshold from '../../src/mlp/threshold-kernels.js';
import * as slab from '../../src/slab/kernels.js';
import * as staged from '../../src/slab/staged-kernels.js';
import { describeAdapters } from '../support/adapters.js';

const table: KernelTable = {
  name: 'made_up',
  code: [
    '@group(0) @binding(0) var<uniform> params: vec4<u32>;',
    '@group(0) @binding(1) var<storage, read_write> out: array<u32>;',
    '//@slot value',
    '//@slot only',
    '@compute @workgroup_size(WORKGROUP)',
    'fn main() { out[0] = params.x + value() + only(); }',
  ].join('\n'),
  slots: {
    value: {
      one: 'fn value() -> u32 { return 1u; }',
      odd: 'diagnostic(off, derivative_uniformity);\nfn value() -> u32 { return WORKGROUP; }',
    },
    only: { choice: 'fn only() -> u32 { return 0u; }' },
  },
  constants: { WORKGROUP: 1 },
};
const one = { slots: { value: 'one' } };

/** Every table of the package. */
const isTable = (value: unknown): value is KernelTable =>
  typeof value === 'object' && value !== null && 'code' in value && 'slots' in value;
const tables = [mlp, fused, model, threshold, slab, staged, llama].flatMap((module) =>
  Object.values<unknown>(module).filter(isTable),
);

describe('compose', () => {
  it('fills slots, takes the only choice by itself, and sets constants', () => {
    const code = compose(table, { ...one, constants: { WORKGROUP: 8 } });
    expect(code).toContain('const WORKGROUP: u32 = 8u;');
    expect(code).toContain('fn value() -> u32 { return 1u; }');
    expect(code).toContain('fn only()');
    expect(code).not.toContain('//@slot');
    expect(compose(table, one)).toContain('const WORKGROUP: u32 = 1u;');
  });

  it('fills the slots of a choice', () => {
    const nested: KernelTable = {
      ...table,
      slots: { ...table.slots, value: { outer: '//@slot inner' }, inner: table.slots.value },
    };
    const code = compose(nested, { slots: { value: 'outer', inner: 'one' } });
    expect(code).toContain('fn value() -> u32 { return 1u; }');
    expect(code).not.toContain('//@slot');
    expect(() => compose(nested, { slots: { value: 'outer' } })).toThrow(/has no inner "undefined"/);
  });

  it('brings directives to the front', () => {
    const code = compose(table, { slots: { value: 'odd' } });
    expect(code.startsWith('diagnostic(off, derivative_uniformity);')).toBe(true);
    expect(code.match(/diagnostic/g)).toHaveLength(1);
  });

  it.each([
    ['an unknown choice', { slots: { value: 'two' } }, /has no value "two".*one, odd/],
    ['a choice that is left open', {}, /has no value "undefined".*one, odd/],
    ['a choice named like a method of objects', { slots: { value: 'toString' } }, /has no value "toString"/],
    ['an unknown constant', { ...one, constants: { LANES: 4 } }, /has no constant "LANES"/],
  ])('refuses %s', (_, variant, message) => {
    expect(() => compose(table, variant)).toThrow(OptionError);
    expect(() => compose(table, variant)).toThrow(message);
  });

  it('refuses a choice for a slot that the table does not have', () => {
    expect(() => compose(table, { slots: { value: 'one', team: 'lane' } })).toThrow(OptionError);
  });

  it('refuses a constant named like a method of objects', () => {
    expect(() => compose(table, { ...one, constants: { toString: 4 } })).toThrow(OptionError);
  });

  it('means one thing by a name and its choices, by which compiled kernels are kept', () => {
    const known = new Map<string, string>();
    for (const { name, code, slots } of tables) {
      const texts = [
        ['', code],
        ...Object.entries(slots).flatMap(([slot, choices]) =>
          Object.entries(choices).map(([choice, text]) => [`${slot} ${choice}`, text]),
        ),
      ];
      for (const [what, text] of texts) {
        const key = `${name} ${what}`;
        expect(text, key).toBe(known.get(key) ?? text);
        known.set(key, text);
      }
    }
    expect(known.size).toBeGreaterThan(100);
  });

  it('has each slot of each table in its code, and each slot of the code in its table', () => {
    expect(tables.length).toBeGreaterThan(12);
    for (const { code, slots, name } of tables) {
      // Choices may have open places too.
      const texts = [code, ...Object.values(slots).flatMap((choices) => Object.values(choices))];
      const slot = /^\/\/@(?:slot|again \w+:) ([\w ]*\w)/gm;
      const open = texts.flatMap((text) => [...text.matchAll(slot)].flatMap(([, names]) => names.split(' ')));
      expect([...new Set(open)].sort(), name).toEqual(Object.keys(slots).sort());
    }
  });
});

describe('foldGrid', () => {
  const device = { limits: { maxComputeWorkgroupsPerDimension: 8 } } as unknown as GPUDevice;

  it('folds what is too much for one dimension, with few workgroups too many', () => {
    expect(foldGrid(device, 0)).toEqual([0, 1]);
    expect(foldGrid(device, 8)).toEqual([8, 1]);
    expect(foldGrid(device, 9)).toEqual([5, 2]);
    for (let count = 0; count <= 64; count++) {
      const [x, y] = foldGrid(device, count);
      expect(Math.max(x, y), `${count}`).toBeLessThanOrEqual(8);
      expect(x * y, `${count}`).toBeGreaterThanOrEqual(count);
      expect(x * y - count, `${count}`).toBeLessThan(y);
    }
  });
});

describeAdapters('kernel', (ctx) => {
  it('compiles a variant once per device', () => {
    const { device } = ctx;
    const first = kernel(device, table, one);
    expect(kernel(device, table, { slots: { value: 'one' } })).toBe(first);
    expect(kernel(device, table, { ...one, constants: { WORKGROUP: 2 } })).not.toBe(first);
    expect(kernel(device, table, { slots: { value: 'odd' } })).not.toBe(first);
    expect(first.label).toBe('pairslab made_up one');
  });

  it('throws before anything is compiled or kept', () => {
    const { device } = ctx;
    for (let i = 0; i < 2; i++)
      expect(() => kernel(device, table, { ...one, constants: { LANES: 4 } })).toThrow(OptionError);
  });

  it('binds by name and says which buffer is missing', () => {
    const { device } = ctx;
    const made = kernel(device, table, one);
    const uniform = device.createBuffer({ size: 16, usage: 0x40 });
    const storage = device.createBuffer({ size: 512, usage: 0x80 });
    expect(() => made.bind({ params: uniform })).toThrow(/needs a buffer named "out"/);
    made.bind({ params: uniform, out: storage, unused: undefined });
    made.bind({ params: uniform, out: { buffer: storage, offset: 256, size: 16 } });
    uniform.destroy();
    storage.destroy();
  });
});
