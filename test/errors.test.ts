import { expect, it } from 'vitest';
import * as errors from '../src/errors.js';

it('every error says its own name, whatever a minifier made of the class', () => {
  for (const [name, made] of Object.entries(errors)) {
    const error =
      name === 'PoolError' ? new errors.PoolError('short', 'x') : new (made as typeof errors.ShapeError)('x');
    expect(error.name).toBe(name);
    expect(String(error)).toBe(`${name}: x`);
    expect(error).toBeInstanceOf(errors.PairslabError);
  }
});
