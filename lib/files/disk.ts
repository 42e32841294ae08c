/** Reading parts of files, and replacing files so that nobody ever sees half of one. */
import { randomUUID } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";

/** Bytes of one read or write at most: the system's own limit is a little below 2 GiB. */
const PIECE = 2 ** 30;

/**
 * The bytes from `start` up to `end` of an open file.
 *
 * @throws {RangeError} when the file ends before
 */
export async function readBytes(
  file: FileHandle,
  start: number,
  end: number,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(end - start);
  for (let done = 0; done < bytes.length;) {
    const length = Math.min(bytes.length - done, PIECE);
    const { bytesRead } = await file.read(bytes, done, length, start + done);
    if (bytesRead === 0) {
      throw new RangeError(
        `Cannot read bytes ${start} to ${end} as the file must not shrink while it is open: ` +
          `current length is ${start + done}`,
      );
    }
    done += bytesRead;
  }
  return bytes;
}

/**
 * At every moment `path` is the old file or all of the new one.
 *
 * The bytes go to a temporary file beside it, which is flushed to the disk and then renamed over it.
 * Interrupted, the old file stays; on an error the temporary file is removed as well.
 *
 * @param fill writes the file by calling `put` with its bytes in order, and last with any that go over others,
 *   at a place counted from the file's first byte
 */
export async function replaceFile(
  path: string,
  fill: (put: (bytes: Uint8Array, at?: number) => Promise<void>) => Promise<void>,
): Promise<void> {
  const beside = join(dirname(path), `.${randomUUID()}.partial`);
  const file = await open(beside, "wx");
  try {
    try {
      await fill(async (bytes, at) => {
        for (let done = 0; done < bytes.length;) {
          const length = Math.min(bytes.length - done, PIECE);
          const place = at === undefined ? null : at + done;
          done += (await file.write(bytes, done, length, place)).bytesWritten;
        }
      });
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}
