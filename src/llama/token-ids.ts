import { RowError, ShapeError } from '../errors.js';
import type { LlamaWeights } from './weights.js';

/**
 * Whether `ids` can follow the `position` tokens that a sequence has.
 * @throws ShapeError when there are none or they do not fit the context; RowError for an id that the model has not.
 */
export function checkTokenIds(
  ids: ArrayLike<number>,
  position: number,
  { context, config: { vocabSize } }: Pick<LlamaWeights, 'context' | 'config'>,
): void {
  if (ids.length === 0) throw new ShapeError('there are no tokens to feed.');
  if (position + ids.length > context) {
    throw new ShapeError(
      `${ids.length} more tokens after ${position} do not fit the context of ${context}; use a shorter prompt.`,
      { tokens: ids.length, position, context },
    );
  }
  for (let i = 0; i < ids.length; i++) {
    if (!Number.isInteger(ids[i]) || ids[i] < 0 || ids[i] >= vocabSize) {
      throw new RowError(`token ${i} is ${ids[i]}; ids are integers from 0 to ${vocabSize - 1}.`, {
        id: ids[i],
        i,
      });
    }
  }
}
