/**
 * Every error pairslab throws on purpose is one of these. The message says what was wrong, with the numbers,
 * and what to do; `details` carries the same numbers for a program to read.
 */
export class PairslabError extends Error {
  /** Written out: minifiers rename classes. */
  override name: string = 'PairslabError';
  readonly details: Readonly<Record<string, unknown>>;
  constructor(message: string, details: Record<string, unknown> = {}) {
    super(message);
    this.details = details;
  }
}

/** An argument has the wrong shape, length or type. */
export class ShapeError extends PairslabError {
  override name: string = 'ShapeError';
}

/** A row id is out of range, not an integer, or given twice. */
export class RowError extends PairslabError {
  override name: string = 'RowError';
}

/** Scores or weights hold NaN or infinity where a finite number is needed. */
export class NonFiniteError extends PairslabError {
  override name: string = 'NonFiniteError';
}

/** An option or a setting has a value that is not among the allowed ones. */
export class OptionError extends PairslabError {
  override name: string = 'OptionError';
}

/** A step needs more slots than the slab has. `details.rows` names the rows that do not fit. Nothing changed. */
export class CapacityError extends PairslabError {
  override name: string = 'CapacityError';
}

/** A buffer or a binding would exceed what the device allows, or more memory than there is. */
export class DeviceLimitError extends PairslabError {
  override name: string = 'DeviceLimitError';
}

/** The state that was asked for is on the device: `DevicePlanner.sync` brings it back. Nothing changed. */
export class OnDeviceError extends PairslabError {
  override name: string = 'OnDeviceError';
}

/**
 * The GPU device was lost. What the host keeps (slot maps, masks, a session's tokens) is as it was before the step that
 * was under way; `rebuild(device)` of whatever was made on the device brings it back on another one. `details`: reason,
 * message, as WebGPU gives them.
 */
export class DeviceLostError extends PairslabError {
  override name: string = 'DeviceLostError';
}

/** No WebGPU adapter fits what was asked for. */
export class AdapterError extends PairslabError {
  override name: string = 'AdapterError';
}

/** A saved tuning is corrupt, hostile, or of another adapter. */
export class TuningError extends PairslabError {
  override name: string = 'TuningError';
}

/** A model file is truncated, inconsistent or hostile. */
export class ModelFormatError extends PairslabError {
  override name: string = 'ModelFormatError';
}

/** A model's configuration asks for something the loader does not know. */
export class UnsupportedModelError extends PairslabError {
  override name: string = 'UnsupportedModelError';
}

/** What kept rows from arriving; see `PoolError`. */
export type PoolErrorCode =
  /** The server answers a range request with the whole file. */
  | 'no-ranges'
  /** A response ended before all its bytes were there. */
  | 'short'
  /** The file is another one than when it was opened. */
  | 'changed'
  /** There is no such file (any more). */
  | 'missing'
  /** Nothing came for too long. */
  | 'stalled'
  /** The server sent another range than it was asked for. */
  | 'wrong-range'
  /** The server refused. `details.status` has its answer. */
  | 'status'
  /** No connection, or it broke. */
  | 'network'
  /** The bytes are not those that were stored. */
  | 'checksum';

/**
 * Rows could not be had from where they are kept. Nothing on the device has changed: what is resident can be used on,
 * and the same step may be tried again.
 */
export class PoolError extends PairslabError {
  override name: string = 'PoolError';
  readonly code: PoolErrorCode;
  constructor(code: PoolErrorCode, message: string, details: Record<string, unknown> = {}) {
    super(message, { code, ...details });
    this.code = code;
  }
}

/** A recorded trace is truncated, inconsistent or hostile. */
export class TraceError extends PairslabError {
  override name: string = 'TraceError';
}

/** A worker could not be started, or ended, so that what was asked of it has no answer. */
export class WorkerError extends PairslabError {
  override name: string = 'WorkerError';
}
