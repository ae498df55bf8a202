/**
 * How rows are stored on the device. A row is a run of 16-byte vectors: its values, padded with zeros to whole vectors,
 * and then the scales where the dtype has them.
 *
 * - f32, f16, bf16: 4, 8, 8 values a vector.
 * - q8: 16 int8 a vector; then one vector that starts with the row's scale, an f32.
 * - q4: 32 int4 a vector, one group, the first in the lowest bits; then an f16 scale a group, eight to a vector.
 */
export type StoredDtype = 'f32' | 'f16' | 'bf16' | 'q8' | 'q4';
export const STORED_DTYPES: readonly StoredDtype[] = ['f32', 'f16', 'bf16', 'q8', 'q4'];
