import { OptionError } from './errors.js';

/** Defaults that a person can set from outside; an option given in code always wins over them. */
export interface Settings {
  /** PAIRSLAB_HYBRID_TAU: the hybrid plan repacks when writes / m' is above this; in [0, 1]; undefined: as measured. */
  readonly hybridTau: number | undefined;
  /** PAIRSLAB_ROWS_PER_WORKGROUP: integer in [1, 64]; undefined leaves the choice to the kernel's variant. */
  readonly rowsPerWorkgroup: number | undefined;
  /** PAIRSLAB_VECTOR_WIDTH: u32 words that one lane copies at a time; undefined leaves the choice to the variant. */
  readonly vectorWidth: 1 | 2 | 4 | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads the environment anew at each call. Where there is none (a browser) every setting has its default; a variable
 * that is empty counts as unset.
 *
 * @throws OptionError when a variable is malformed; `details` holds its `variable`, `value` and what is `allowed`.
 */
export function settings(env: Environment = environment()): Settings {
  return {
    hybridTau: read(env, 'PAIRSLAB_HYBRID_TAU', 'a number from 0 to 1', undefined, (text) => {
      const value = DECIMAL.test(text) ? Number(text) : Number.NaN;
      return value >= 0 && value <= 1 ? value : undefined;
    }),
    rowsPerWorkgroup: read(
      env,
      'PAIRSLAB_ROWS_PER_WORKGROUP',
      'an integer from 1 to 64',
      undefined,
      (text) => {
        const value = DIGITS.test(text) ? Number(text) : Number.NaN;
        return value >= 1 && value <= 64 ? value : undefined;
      },
    ),
    vectorWidth: read(env, 'PAIRSLAB_VECTOR_WIDTH', '1, 2 or 4', undefined, (text) =>
      text === '1' ? 1 : text === '2' ? 2 : text === '4' ? 4 : undefined,
    ),
  };
}

// Number() alone would also take '', '0x1' and 'Infinity'.
const DECIMAL = /^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const DIGITS = /^\d+$/;

function read<T, D>(
  env: Environment,
  variable: string,
  allowed: string,
  fallback: D,
  parse: (text: string) => T | undefined,
): T | D {
  const text = env[variable]?.trim();
  if (text === undefined || text === '') return fallback;
  const value = parse(text);
  if (value === undefined) {
    throw new OptionError(`${variable} is '${env[variable]}'; it must be ${allowed}`, {
      variable,
      value: env[variable],
      allowed,
    });
  }
  return value;
}

/** Node's environment without importing Node: the core runs unchanged where there is no `process`. */
function environment(): Environment {
  const host = globalThis as { process?: { env?: Environment } };
  return host.process?.env ?? {};
}
