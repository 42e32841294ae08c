/**
 * The hashes by which AUTOMATIC1111 and kohya's tools know a file again, whatever is written into its metadata later.
 *
 * LyCORIS writes another number under `sshs_model_hash`: `0x` and the sha256 of the tensors in the order of its
 * modules, which a file does not tell. Here they are kohya's.
 */
import { createHash } from "node:crypto";
import { type Described, writeHeader } from "./header.ts";
import type { TensorEntry } from "./safetensors.ts";

/** Metadata that names the tensors of a file. */
export interface Hashes {
  sshs_model_hash: string;
  sshs_legacy_hash: string;
  "modelspec.hash_sha256": string;
}

/** The bytes of a file that the legacy hash covers: those by which checkpoints were once told apart. */
const LEGACY = { start: 0x100000, end: 0x110000 };

/** What the reference writes for metadata that is there and empty. */
const EMPTY = '"__metadata__":{},';

/**
 * `sshs_model_hash`: sha256 of all tensors in the file's order; `modelspec.hash_sha256`: the same with `0x` before it;
 * `sshs_legacy_hash`: the first 8 digits of the sha256 of the bytes 0x100000 to 0x110000 of the file as it is with
 * the metadata `ss_*` alone.
 *
 * Source: kohya's `train_util.precalculate_safetensors_hashes`, `addnet_hash_safetensors`, `addnet_hash_legacy`; the
 * model specification 1.0. Each tensor is asked for once.
 */
export async function hashes(
  entries: Iterable<TensorEntry>,
  metadata: Record<string, string> = {},
): Promise<Hashes> {
  const { rows } = writeHeader([...entries], {}), { pass, digest } = hashing(rows, metadata);
  for (const row of rows) pass(await row.bytes());
  return digest();
}

/** Hashes of a file whose tensors pass by. */
export interface Hashing {
  /** the next bytes of the tensors */
  pass(bytes: Uint8Array): void;
  /** once, when all have passed */
  digest(): Hashes;
}

/**
 * The {@link hashes} of a file that is being written.
 *
 * @param tensors in the order in which they are written
 */
export function hashing(
  tensors: readonly Described[],
  metadata: Record<string, string>,
): Hashing {
  const training = Object.entries(metadata).filter(([key]) => key.startsWith("ss_"));
  const { bytes: header } = writeHeader(tensors, Object.fromEntries(training), "given");
  const model = createHash("sha256"), legacy = createHash("sha256");
  let at = 0;
  const old = (bytes: Uint8Array) => {
    const cut = (place: number) => Math.min(Math.max(place - at, 0), bytes.length);
    legacy.update(bytes.subarray(cut(LEGACY.start), cut(LEGACY.end)));
    at += bytes.length;
  };
  old(new Uint8Array(8));
  old(training.length > 0 ? header : withEmpty(header));
  const pass = (bytes: Uint8Array) => {
    model.update(bytes);
    old(bytes);
  };
  const digest = () => {
    const all = model.digest("hex");
    return {
      sshs_model_hash: all,
      sshs_legacy_hash: legacy.digest("hex").slice(0, 8),
      "modelspec.hash_sha256": `0x${all}`,
    };
  };
  return { pass, digest };
}

/** A header without metadata as kohya's call writes it, with metadata that is empty. */
function withEmpty(header: Uint8Array): Uint8Array {
  const json = new TextDecoder().decode(header).trimEnd().replace("{", `{${EMPTY}`);
  const bytes = new TextEncoder().encode(json);
  const padded = new Uint8Array(Math.ceil(bytes.length / 8) * 8).fill(0x20);
  padded.set(bytes);
  return padded;
}

/**
 * Metadata whose hashes are those of the tensors: those that it has already, and all if asked.
 */
export async function hashed(
  entries: readonly TensorEntry[],
  metadata: Record<string, string>,
  add = false,
): Promise<Record<string, string>> {
  const described = Object.keys(metadata).some((key) => key.startsWith("modelspec."));
  const wanted: Record<keyof Hashes, boolean> = {
    sshs_model_hash: add,
    sshs_legacy_hash: add,
    "modelspec.hash_sha256": add && described,
  };
  const names = (Object.keys(wanted) as (keyof Hashes)[])
    .filter((name) => wanted[name] || name in metadata);
  if (names.length === 0) return metadata;
  const made = await hashes(entries, metadata);
  return { ...metadata, ...Object.fromEntries(names.map((name) => [name, made[name]])) };
}
