import { OptionError } from '../errors.js';
import { type Traits, traitsOf } from '../gpu/traits.js';
import { tuned } from '../gpu/tuning.js';
import { settings } from '../settings.js';

/** How rows are copied into a slab. */
export interface CopyVariant {
  /** One dispatch of `copy_rows`, or one copyBufferToBuffer a row and field, which needs no pass. */
  readonly arm: 'kernel' | 'copies';
  /** Lanes along a row. */
  readonly WORKGROUP: number;
  /** Rows a workgroup takes. */
  readonly ROWS: number;
  /** u32 words a lane moves at once. */
  readonly vectorWidth: 1 | 2 | 4;
}

/** Under which name the row copy is tuned. */
export const COPY_KERNEL = 'copy_rows';

/**
 * The variants of the row copy that can run on a device; the first is the default.
 *
 * Measured on lavapipe (Mesa 25.0): a workgroup of one subgroup copies 8.6 GB/s, one of 64 lanes 4. A software adapter
 * runs a workgroup's subgroups one after the other, and those beyond the row's end have nothing to do. Four rows a
 * workgroup take half the time of one where rows are short (144 bytes), and about the same where they have 4 KB.
 */
export function copyVariants({ software, subgroup }: Traits): CopyVariant[] {
  const lanes = software ? [...new Set([subgroup || 8, 4, 16, 64])] : [64, 32, 128, 256];
  const rows = software ? [4, 1, 16] : [1, 4];
  const kernels = lanes.flatMap((WORKGROUP) => rows.map((ROWS) => ({ WORKGROUP, ROWS })));
  return [
    ...kernels.map((cut): CopyVariant => ({ arm: 'kernel', ...cut, vectorWidth: 4 })),
    { arm: 'copies', WORKGROUP: 0, ROWS: 0, vectorWidth: 4 },
  ];
}

/** The tuned variant for fields whose widest row has so many u32 words, else the default. */
export function copyVariant(device: GPUDevice, words: number): CopyVariant {
  const variants = copyVariants(traitsOf(device));
  return tuned(device, copyTunedFor(words), variants) ?? variants[0];
}

/** Row copies know no dtype: they are filed as rows of so many f32. */
export function copyTunedFor(words: number) {
  return { kernel: COPY_KERNEL, dtype: 'f32', batched: false, cols: words } as const;
}

/** Knobs of the row copy; defaults from PAIRSLAB_ROWS_PER_WORKGROUP and PAIRSLAB_VECTOR_WIDTH, then the tuned variant. */
export interface CopyTuning {
  /** Rows one workgroup copies, 1 to 64. */
  rowsPerWorkgroup?: number;
  /** u32 words a lane moves at once: 1, 2 or 4. */
  vectorWidth?: 1 | 2 | 4;
}

/** How rows are copied in a compute pass: what was asked for, else what the settings say, else the variant's. */
export interface CopyKnobs {
  /** The tuned copy, or the adapter's default. */
  readonly variant: CopyVariant;
  readonly lanes: number;
  readonly rowsPerWorkgroup: number;
  readonly vectorWidth: 1 | 2 | 4;
}

/** For fields whose widest row has so many u32 words. @throws OptionError for a knob out of range. */
export function copyKnobs(device: GPUDevice, words: number, options: CopyTuning): CopyKnobs {
  const defaults = settings();
  const variant = copyVariant(device, words);
  // A pass has no buffer copies: there the adapter's default kernel stands in for them.
  const kernel = variant.arm === 'kernel' ? variant : copyVariants(traitsOf(device))[0];
  const rowsPerWorkgroup = checkKnob(
    'rowsPerWorkgroup',
    options.rowsPerWorkgroup ?? defaults.rowsPerWorkgroup ?? kernel.ROWS,
    64,
  );
  const vectorWidth = options.vectorWidth ?? defaults.vectorWidth ?? kernel.vectorWidth;
  if (![1, 2, 4].includes(vectorWidth)) {
    throw new OptionError(`vectorWidth must be 1, 2 or 4; it is ${vectorWidth}.`, { value: vectorWidth });
  }
  return { variant, lanes: kernel.WORKGROUP, rowsPerWorkgroup, vectorWidth };
}

function checkKnob(name: string, value: number, most: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= most) return value;
  throw new OptionError(`${name} must be an integer from 1 to ${most}; it is ${value}.`, { name, value });
}
