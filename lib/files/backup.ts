/**
 * What a merge changed, as it was: a safetensors file of those tensors, whose metadata has the headers of the
 * checkpoint's files to the byte.
 */
import { Buffer } from "node:buffer";
import type { Checkpoint, CheckpointFile } from "./checkpoint.ts";
import { type Described, readHeader } from "./header.ts";
import { headerSize, open as openTensors, write as writeTensors } from "./safetensors.ts";
import { openSource, type Place } from "./source.ts";

/** Metadata of a backup: what was merged then, and the headers by the files' paths, as base64. */
const KEY = "lowrank.backup";

interface Kept {
  merged: unknown;
  headers: Record<string, string>;
}

/** Bytes of all tensors, or of some. */
export function tensorBytes(
  { tensors }: Checkpoint,
  keys: Iterable<string> = tensors.keys(),
): number {
  let sum = 0;
  for (const key of keys) {
    const { start, end } = tensors.get(key)!;
    sum += end - start;
  }
  return sum;
}

/** The header of a file, without its length. */
async function headerOf(place: Place): Promise<Uint8Array> {
  const source = await openSource(place);
  try {
    const end = headerSize(await source.read(0, Math.min(8, source.size)), source.size);
    return await source.read(8, end);
  } finally {
    await source.close();
  }
}

/** Writes the backup of the tensors `keys`, one in memory at a time. */
export async function write(
  path: string,
  checkpoint: Checkpoint,
  keys: readonly string[],
  merged: unknown,
): Promise<void> {
  const headers: Record<string, string> = {};
  for (const { path, place } of checkpoint.files) {
    headers[path] = Buffer.from(await headerOf(place)).toString("base64");
  }
  const entries = keys.map((name) => {
    const { dtype, shape } = checkpoint.tensors.get(name)!;
    return { name, dtype, shape, bytes: async () => (await checkpoint.read(name)).bytes };
  });
  await writeTensors(path, entries, { [KEY]: JSON.stringify({ merged, headers }) });
}

/** An open backup. */
export interface Backup extends AsyncDisposable {
  /** the tensors that changed, as they were */
  changes: Map<string, () => Promise<Uint8Array>>;
  header(file: CheckpointFile): Uint8Array | undefined;
}

const described = (rows: Iterable<Described>) =>
  JSON.stringify([...rows].map(({ name, dtype, shape }) => [name, dtype, shape]));

/** Whether a header is one of the tensors that a file has. */
function describes(header: Uint8Array, { path, tensors }: CheckpointFile): boolean {
  const { rows } = readHeader(header, path), own = [...tensors.tensors];
  rows.sort((a, b) => a.begin - b.begin || a.end - b.end);
  return described(rows) === described(own.map(([name, slot]) => ({ name, ...slot })));
}

/**
 * Opens the backup of a checkpoint that something was merged into.
 *
 * @param merged what the checkpoint says was merged
 * @throws {RangeError} for another checkpoint's backup
 * @throws {SyntaxError} for a file that is no backup
 */
export async function open(
  path: string,
  checkpoint: Checkpoint,
  merged: unknown,
): Promise<Backup> {
  const file = await openTensors(path);
  try {
    const kept = read(path, file.metadata[KEY]);
    const headers = new Map(
      checkpoint.files.map(({ path }) =>
        [path, new Uint8Array(Buffer.from(kept.headers[path] ?? "", "base64"))] as const
      ),
    );
    const belongs = JSON.stringify(kept.merged) === JSON.stringify(merged) &&
      checkpoint.files.every((file) => describes(headers.get(file.path)!, file)) &&
      [...file.tensors].every(([key, { dtype, shape }]) => {
        const now = checkpoint.tensors.get(key);
        return now?.dtype === dtype && `${now.shape}` === `${shape}`;
      });
    if (!belongs) {
      throw new RangeError(
        `Cannot unmerge with "${path}" as it must be the backup of this checkpoint's last merge: ` +
          `current backup is of ${JSON.stringify(kept.merged)}, the checkpoint of ` +
          JSON.stringify(merged),
      );
    }
    const changes = new Map(
      [...file.tensors.keys()].map((key) => [key, async () => (await file.read(key)).bytes]),
    );
    const header = ({ path }: CheckpointFile) => headers.get(path);
    return { changes, header, [Symbol.asyncDispose]: file.close };
  } catch (error) {
    await file.close();
    throw error;
  }
}

function read(path: string, text: string | undefined): Kept {
  try {
    const kept = JSON.parse(text ?? "") as Kept;
    if (typeof kept.headers === "object" && kept.headers !== null) return kept;
  } catch {
    // told below
  }
  throw new SyntaxError(
    `Cannot read the backup "${path}" as its metadata has ${KEY}: current file is no backup`,
  );
}
