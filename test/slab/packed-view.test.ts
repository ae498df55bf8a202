import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OptionError } from '../../src/errors.js';
import { rowBytes, valueBytes } from '../../src/gpu/layout.js';
import { packedDtype } from '../../src/slab/packed-view.js';
import { viewOf } from '../../src/slab/view.js';

const buffer = {} as GPUBuffer;
const view = (dtype: 'f32' | 'f16' | 'bf16', parts: number[], active = 3) =>
  viewOf(
    'slab',
    { name: 'field', dtype, parts, rowBytes: parts.reduce((sum, cols) => sum + rowBytes(cols, dtype), 0) },
    buffer,
    active,
    buffer,
  );

describe('a view for another runtime', () => {
  it('is one whose rows have no padding: each part in multiples of 4 (f32) or 8 (f16) columns', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('f32' as const, 'f16' as const),
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 3 }),
        (dtype, parts) => {
          const whole = parts.every((cols) => (cols * valueBytes(dtype)) % 16 === 0);
          const found = () => packedDtype(view(dtype, parts), ['f32', 'f16'], 'a runtime');
          if (whole) expect(found()).toBe(dtype);
          else expect(found).toThrow(OptionError);
        },
      ),
    );
  });

  it('has a dtype that the runtime knows, and rows', () => {
    expect(() => packedDtype(view('bf16', [8]), ['f32', 'f16'], 'ORT')).toThrow(/bf16; ORT takes f32 or f16/);
    expect(() => packedDtype(view('f16', [8]), ['f32'], 'tfjs')).toThrow(/f16; tfjs takes f32/);
    expect(() => packedDtype(view('f32', [8], 0), ['f32'], 'tfjs')).toThrow(/holds no rows/);
  });
});
