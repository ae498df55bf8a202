import type { Bitmask } from '../../mask/index.js';
import type { Policy } from '../policy.js';

/** Active rows only, as published: every row goes that the step does not use. */
export class Exact implements Policy {
  readonly name = 'exact';

  victims(_count: number, resident: Bitmask, wanted: Bitmask): number[] {
    return [...resident.without(wanted)];
  }

  admit(): void {}
  note(): void {}
  endStep(): void {}
}
