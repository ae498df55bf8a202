/**
 * CRC-32C (Castagnoli): polynomial 0x1EDC6F41 reflected, initial value and final exclusive-or of all ones; as in RFC 3720,
 * appendix B.4. It finds every error of up to three bits in blocks of this size, and every burst of up to 32 bits; it is
 * no defence against someone who wants to deceive.
 *
 * Own code, because the core has no runtime dependency, `crypto.subtle` exists only on https pages, takes a promise a
 * block, and knows no such sum. Eight bytes a turn by eight tables, after Kounavis and Berry, "A Systematic Approach to
 * Building High Performance Software-Based CRC Generators" (2005).
 */
const POLYNOMIAL = 0x82f63b78;

const TABLES: readonly Int32Array[] = makeTables();

function makeTables(): Int32Array[] {
  const tables = [new Int32Array(256)];
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    tables[0][byte] = crc;
  }
  for (let t = 1; t < 8; t++) {
    const before = tables[t - 1];
    tables.push(before.map((crc) => (crc >>> 8) ^ tables[0][crc & 255]));
  }
  return tables;
}

/** The checksum of `bytes`, as a u32. `before` continues from the checksum of what came first. */
export function crc32c(bytes: Uint8Array, before = 0): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = TABLES;
  let crc = ~before;
  let i = 0;
  for (const whole = bytes.length - 7; i < whole; i += 8) {
    const low = crc ^ (bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24));
    crc =
      t7[low & 255] ^
      t6[(low >>> 8) & 255] ^
      t5[(low >>> 16) & 255] ^
      t4[low >>> 24] ^
      t3[bytes[i + 4]] ^
      t2[bytes[i + 5]] ^
      t1[bytes[i + 6]] ^
      t0[bytes[i + 7]];
  }
  for (; i < bytes.length; i++) crc = (crc >>> 8) ^ t0[(crc ^ bytes[i]) & 255];
  return ~crc >>> 0;
}
