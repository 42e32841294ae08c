/** A safetensors file written anew: the same tensors in the same order, some with other bytes. */
import { replaceFile } from "./disk.ts";
import { type Hashes, hashing } from "./hashes.ts";
import { writeHeader } from "./header.ts";
import { release } from "./release.ts";
import type { TensorFile } from "./safetensors.ts";

/** What of a file is to be another. */
export interface RewriteOptions {
  /** bytes of tensors by name, of the same dtype and shape, asked for when their turn comes */
  changes: ReadonlyMap<string, () => Promise<Uint8Array>>;
  /** default: the file's own; hashes among it are made right */
  metadata?: Record<string, string>;
  /** the header as it is to be, to the byte, without its length; it must describe the same tensors */
  header?: Uint8Array;
  /** told of every tensor that is written */
  onTensor?: (name: string) => void;
}

/** Hashes of the length that they will have. */
const UNKNOWN: Hashes = {
  sshs_model_hash: "0".repeat(64),
  sshs_legacy_hash: "0".repeat(8),
  "modelspec.hash_sha256": "0x".padEnd(66, "0"),
};

const prefix = (header: Uint8Array) =>
  new Uint8Array(BigUint64Array.of(BigInt(header.length)).buffer);

/**
 * Writes `path` as `file` with changes: a tensor in memory at a time, of those that stay some MiB.
 *
 * At every moment `path` is the old file or all of the new one; it may be `file` itself.
 *
 * @throws {TypeError} for changed bytes of another length
 */
export async function rewrite(
  path: string,
  file: TensorFile,
  { changes, metadata = file.metadata, header, onTensor }: RewriteOptions,
): Promise<void> {
  const tensors = [...file.tensors].map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
  const stale = header ? [] : (Object.keys(UNKNOWN) as (keyof Hashes)[])
    .filter((name) => name in metadata);
  const headerWith = (hashes: Partial<Hashes>) => {
    const own = stale.map((name) => [name, hashes[name]]);
    return writeHeader(tensors, { ...metadata, ...Object.fromEntries(own) }, "given").bytes;
  };
  const first = header ?? headerWith(UNKNOWN);
  const hashes = stale.length > 0 ? hashing(tensors, metadata) : undefined;
  await replaceFile(path, async (put) => {
    await put(prefix(first));
    await put(first);
    for (const [name, { start, end }] of file.tensors) {
      const change = changes.get(name);
      for await (const bytes of change ? [await change()] : file.pieces(name)) {
        if (change && bytes.length !== end - start) {
          throw new TypeError(
            `Cannot write tensor "${name}" as its dtype and shape take ${end - start} bytes: ` +
              `current number of bytes is ${bytes.length}`,
          );
        }
        hashes?.pass(bytes);
        await put(bytes);
        release(bytes);
      }
      onTensor?.(name);
    }
    if (hashes) await put(headerWith(hashes.digest()), prefix(first).length);
  });
}
