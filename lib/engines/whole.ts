/** Whether the file of a library is all there: Linux's loader crashes the process on one that is cut off. */
import { closeSync, existsSync, fstatSync, openSync, readSync } from "node:fs";
import { allowed } from "./environment.ts";

/** Where an ELF file of 64 bits has what is read of it: its header, and each segment's in the table of them. */
const HEADER = {
  length: 64,
  magic: 0x7f454c46,
  wide: 4,
  order: 5,
  table: 32,
  width: 54,
  count: 56,
};
const SEGMENT = { offset: 8, length: 32 };

/**
 * Nothing, for a file that holds all of its segments, and for what is no such file: the loader refuses that.
 *
 * @throws {SyntaxError} where the file ends before a segment does
 */
export function checkWhole(path: string): void {
  if (!allowed({ name: "read", path }) || !existsSync(path)) return;
  const file = openSync(path, "r");
  try {
    const { size } = fstatSync(file), end = endOf(file);
    if (size >= end) return;
    throw new SyntaxError(
      `Cannot open library "${path}" as it must be whole: ` +
        `current file ends after ${size} of ${end} bytes; install it again`,
    );
  } finally {
    closeSync(file);
  }
}

/** The byte after the last segment; 0 of what is no ELF file of 64 bits. */
function endOf(file: number): number {
  const at = (position: number, length: number) => {
    const bytes = new Uint8Array(length);
    const read = readSync(file, bytes, 0, length, position);
    return new DataView(bytes.buffer, 0, read);
  };
  const header = at(0, HEADER.length);
  if (header.byteLength < HEADER.length || header.getUint32(0) !== HEADER.magic) return 0;
  if (header.getUint8(HEADER.wide) !== 2) return 0;
  const little = header.getUint8(HEADER.order) === 1;
  const width = header.getUint16(HEADER.width, little);
  const start = Number(header.getBigUint64(HEADER.table, little));
  const length = width * header.getUint16(HEADER.count, little), table = at(start, length);
  if (table.byteLength < length) return start + length;
  let end = 0;
  for (let segment = 0; segment < length; segment += width) {
    const [offset, size] = [SEGMENT.offset, SEGMENT.length]
      .map((field) => Number(table.getBigUint64(segment + field, little)));
    end = Math.max(end, offset + size);
  }
  return end;
}
