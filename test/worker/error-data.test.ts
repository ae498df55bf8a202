import { describe, expect, it } from 'vitest';
import * as errors from '../../src/errors.js';
import { errorData, restoreError } from '../../src/worker/error-data.js';

const { PairslabError, PoolError, ShapeError } = errors;
const travel = (error: unknown) => restoreError(structuredClone(errorData(error)));

describe('errors as data', () => {
  it('come back as what they were, with their numbers', () => {
    for (const [name, exported] of Object.entries(errors)) {
      if (name === 'PoolError') continue;
      const Class = exported as typeof PairslabError;
      const back = travel(new Class('7 of 8', { have: 7, of: [8] }));
      expect(back).toBeInstanceOf(Class);
      expect(back).toMatchObject({ message: '7 of 8', details: { have: 7, of: [8] } });
      expect(back.constructor).toBe(Class);
    }
    const back = travel(new PoolError('no-ranges', 'whole file', { url: 'x' }));
    expect(back).toBeInstanceOf(PoolError);
    expect(back).toMatchObject({
      code: 'no-ranges',
      message: 'whole file',
      details: { code: 'no-ranges', url: 'x' },
    });
  });

  it('know their class where a bundler renamed it, and the nearest one where it is not exported', () => {
    class Inner extends PairslabError {}
    expect(travel(new Inner('x')).constructor).toBe(PairslabError);
    const renamed = new ShapeError('x');
    renamed.name = 'n';
    expect(travel(renamed)).toBeInstanceOf(ShapeError);
  });

  it('leave out of the details what cannot be sent', () => {
    const back = travel(new ShapeError('x', { cause: () => {}, size: 3 }));
    expect((back as errors.PairslabError).details).toEqual({ size: 3 });
  });

  it('are aborts, other errors and things that are no errors at all', () => {
    const abort = travel(AbortSignal.abort().reason);
    expect(abort).toBeInstanceOf(DOMException);
    expect(abort.name).toBe('AbortError');
    const plain = travel(new RangeError('far'));
    expect(plain).toMatchObject({ name: 'RangeError', message: 'far' });
    expect(plain.stack).toContain('far');
    expect(travel('text')).toMatchObject({ name: 'Error', message: 'text' });
    // A name that is no class of pairslab's own, though errors.ts' namespace may be asked for it.
    expect(restoreError({ name: 'toString', message: 'x' }).name).toBe('toString');
  });
});
