/** Reading a zip archive, as far as wheels need it: entries stored or deflated, in one file below 4 GiB. */
import { createReadStream, createWriteStream } from "node:fs";
import { type FileHandle, mkdir, open, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createInflateRaw } from "node:zlib";

/** A file in the archive. */
export interface Entry {
  name: string;
  deflated: boolean;
  /** bytes in the archive, and unpacked */
  packed: number;
  size: number;
  /** where its own header begins */
  header: number;
}

/** The signature, and the length without name and comment, of each kind of record (PKWARE's APPNOTE 4.3). */
const END = { signature: 0x06054b50, length: 22 };
const DIRECTORY = { signature: 0x02014b50, length: 46 };
const LOCAL = { length: 30 };

async function bytes(file: FileHandle, position: number, length: number): Promise<DataView> {
  const buffer = new Uint8Array(length);
  const { bytesRead } = await file.read(buffer, 0, length, position);
  return new DataView(buffer.buffer, 0, bytesRead);
}

/**
 * The files of an archive.
 *
 * @throws {SyntaxError} where its directory is not found
 */
export async function entries(path: string): Promise<Entry[]> {
  const file = await open(path);
  try {
    const { size } = await file.stat(), tail = Math.min(size, 2 ** 16 + END.length);
    const last = await bytes(file, size - tail, tail);
    let end = last.byteLength - END.length;
    while (end >= 0 && last.getUint32(end, true) !== END.signature) end--;
    if (end < 0) {
      throw new SyntaxError(`Cannot read "${path}" as a zip archive: it ends without a directory`);
    }
    const count = last.getUint16(end + 10, true);
    const directory = await bytes(
      file,
      last.getUint32(end + 16, true),
      last.getUint32(end + 12, true),
    );
    return parse(path, directory, count);
  } finally {
    await file.close();
  }
}

function parse(path: string, directory: DataView, count: number): Entry[] {
  const found: Entry[] = [];
  for (let at = 0; found.length < count;) {
    if (
      at + DIRECTORY.length > directory.byteLength ||
      directory.getUint32(at, true) !== DIRECTORY.signature
    ) {
      throw new SyntaxError(
        `Cannot read "${path}" as a zip archive: its directory names ${found.length} of ${count} files`,
      );
    }
    const [name, extra, comment] = [28, 30, 32].map((field) =>
      directory.getUint16(at + field, true)
    );
    const text = new Uint8Array(directory.buffer, at + DIRECTORY.length, name);
    found.push({
      name: new TextDecoder().decode(text),
      deflated: directory.getUint16(at + 10, true) === 8,
      packed: directory.getUint32(at + 20, true),
      size: directory.getUint32(at + 24, true),
      header: directory.getUint32(at + 42, true),
    });
    at += DIRECTORY.length + name + extra + comment;
  }
  return found;
}

/** Writes one file of an archive beside its target, and then renames it; `step` hears of every byte written. */
export async function unpack(
  path: string,
  { name, deflated, packed, size, header }: Entry,
  target: string,
  step: (bytes: number) => void,
): Promise<void> {
  const file = await open(path);
  const local = await bytes(file, header, LOCAL.length).finally(() => file.close());
  const start = header + LOCAL.length + local.getUint16(26, true) + local.getUint16(28, true);
  let written = 0;
  const counted = new Transform({
    transform(chunk, _encoding, next) {
      written += chunk.length;
      step(chunk.length);
      next(null, chunk);
    },
  });
  await mkdir(dirname(target), { recursive: true });
  const beside = `${target}.partial`, out = createWriteStream(beside);
  if (packed > 0) {
    const source = createReadStream(path, { start, end: start + packed - 1 });
    await (deflated
      ? pipeline(source, createInflateRaw(), counted, out)
      : pipeline(source, counted, out));
  } else await pipeline([], out);
  if (written !== size) {
    throw new SyntaxError(
      `Cannot unpack "${name}" as it must have ${size} bytes: current length is ${written}`,
    );
  }
  await rename(beside, target);
}
