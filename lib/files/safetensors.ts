/**
 * The safetensors format: tensors by name as raw little-endian bytes, described by a JSON header.
 *
 * `N` in 8 bytes · `N` bytes of header · the tensors without a gap. It is read and written as by the
 * reference (github.com/huggingface/safetensors, tensor.rs); what the tensors mean is left to others,
 * and `floats.ts` turns their bytes into numbers.
 *
 * A file need not be in memory: from its first 8 bytes comes `headerSize`, from that many
 * `parseHeader`, which tells where each tensor lies. `open` does so on a disk, in a Blob or over HTTP
 * ranges.
 */
import { replaceFile } from "./disk.ts";
import type { DTYPES } from "./dtypes.ts";
import { LONGEST, malformed, readHeader, writeHeader } from "./header.ts";
import { GLANCE, guess } from "./impostors.ts";
import { openSource, type Place, readPart } from "./source.ts";

/** How one element is stored, under the format's own names. */
export type Dtype = keyof typeof DTYPES;

/** What the header says of a tensor. */
export interface Description {
  /** how one element is stored */
  dtype: Dtype;
  /** lengths of the axes; none for a single number */
  shape: readonly number[];
}

/** A tensor and its bytes. */
export interface TensorView extends Description {
  /** the elements, little-endian, last axis fastest */
  bytes: Uint8Array;
}

/** A tensor still in its file. */
export interface TensorSlot extends Description {
  /** its first byte, counted from the file's */
  start: number;
  /** the first byte after it */
  end: number;
}

/** A tensor to be written. */
export interface TensorEntry extends Description {
  /** its key in the file */
  name: string;
  /** its elements, asked for when its turn comes */
  bytes: () => Uint8Array | Promise<Uint8Array>;
}

/** What a file holds. */
export interface Tensors<T> {
  /** tensors by name, in the order in which they lie in the file */
  tensors: Map<string, T>;
  /** free text about them */
  metadata: Record<string, string>;
}

/** An open file, whose tensors are read when asked for. */
export interface TensorFile extends Tensors<TensorSlot>, AsyncDisposable {
  /** One tensor, newly read; throws a RangeError when the file has none of that name. */
  read(name: string): Promise<TensorView>;
  /** One tensor in pieces of some MiB, newly read, for what need not be in memory at once. */
  pieces(name: string): AsyncIterable<Uint8Array>;
  /** One tensor to be written elsewhere: read when its turn comes, even after this file is closed. */
  entry(name: string): TensorEntry;
  /** Ends the reading; `await using` does it by itself. */
  close(): Promise<void>;
}

/** How a file is called. */
export interface Named {
  /** its name in errors; "bytes" if left out */
  file?: string;
}

/** Bytes before the header, which hold its length. */
const PREFIX = 8;

/** Bytes of a piece at most. */
const PIECE = 2 ** 23;

/**
 * `8 + N`: how many of a file's first bytes `parseHeader` needs.
 *
 * @param head the file's first 8 bytes or more, or all there are
 * @param length bytes of the whole file
 * @throws {SyntaxError} when no safetensors file begins so, with what it looks like instead
 */
export function headerSize(head: Uint8Array, length: number, options: Named = {}): number {
  const { file = "bytes" } = options;
  const refuse = (rule: string, current: string) => malformed("the header", file, rule, current);
  if (head.length < PREFIX) {
    const found = head.length === 0 ? "file is empty" : `length of the file is ${head.length}`;
    refuse(`a file has at least ${PREFIX} bytes`, found + guess(head));
  }
  const size = new DataView(head.buffer, head.byteOffset).getBigUint64(0, true);
  if (size > LONGEST) {
    refuse(`it has at most ${LONGEST} bytes`, `length of the header is ${size}${guess(head)}`);
  }
  const end = PREFIX + Number(size);
  if (end > length) refuse(`it ends ${end} bytes into the file`, cutOff(length));
  return end;
}

const cutOff = (length: number) => `length of the file is ${length}; it seems to be cut off`;

/**
 * Where each tensor of a file lies, from the file's first bytes; all that the format forbids is refused.
 *
 * Stricter than the reference's reader, as the format's description is: no key may appear twice, and
 * the header starts with `{` and not with a blank.
 *
 * @param head the first `headerSize` bytes or more
 * @param length bytes of the whole file
 * @throws {SyntaxError} naming the file, the tensor, the rule it breaks and the value found
 */
export function parseHeader(
  head: Uint8Array,
  length: number,
  options: Named = {},
): Tensors<TensorSlot> {
  const { file = "bytes" } = options;
  const data = headerSize(head, length, options);
  if (head.length < data) {
    throw new RangeError(
      `Cannot parse the header of "${file}" as it ends ${data} bytes into the file: ` +
        `current number of bytes is ${head.length}`,
    );
  }
  const { rows, metadata } = readHeader(head.subarray(PREFIX, data), file);
  rows.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let covered = 0;
  for (const { name, begin, end } of rows) {
    const refuse = (rule: string, current: string) =>
      malformed(`tensor ${JSON.stringify(name)}`, file, rule, current);
    if (begin !== covered) {
      const rule = begin < covered ? "tensors do not overlap" : "tensors follow without a gap";
      refuse(rule, `begin is ${begin} where the tensor before ends at ${covered}`);
    }
    if (data + end > length) refuse(`it ends ${data + end} bytes into the file`, cutOff(length));
    covered = end;
  }
  if (data + covered < length) {
    const found = `length of the file is ${length} where its tensors end at ${data + covered}`;
    malformed("the header", file, "tensors reach to the end of the file", found);
  }
  const slots = rows.map(({ name, dtype, shape, begin, end }) =>
    [name, { dtype, shape, start: data + begin, end: data + end }] as const
  );
  return { tensors: new Map(slots), metadata };
}

/**
 * All tensors of a file in memory, as views of its bytes: nothing is copied.
 *
 * @throws {SyntaxError} naming the file, the tensor, the rule it breaks and the value found
 *
 * @example
 * ```ts
 * import * as assert from "uvu/assert";
 * import { parse, serialize } from "lowrank/safetensors";
 *
 * const bias = { dtype: "U8", shape: [2], bytes: Uint8Array.of(3, 4) } as const;
 * const { tensors, metadata } = parse(serialize([["bias", bias]], { format: "pt" }));
 * assert.equal(tensors.get("bias"), bias);
 * assert.equal(metadata, { format: "pt" });
 * ```
 */
export function parse(bytes: Uint8Array | ArrayBuffer, options: Named = {}): Tensors<TensorView> {
  const file = bytes instanceof ArrayBuffer ? new Uint8Array(bytes) : bytes;
  const { tensors, metadata } = parseHeader(file, file.length, options);
  const views = [...tensors].map(([name, { dtype, shape, start, end }]) => {
    const view = new Uint8Array(file.buffer, file.byteOffset + start, end - start);
    return [name, { dtype, shape, bytes: view }] as const;
  });
  return { tensors: new Map(views), metadata };
}

/**
 * The bytes of a file, the very ones that the reference writes.
 *
 * Tensors are put in order of dtype, widest first, then of name. Metadata keeps the order of its keys,
 * where the reference's is random; empty metadata is left out.
 *
 * @throws {TypeError} for a dtype, shape, number of bytes or metadata that cannot be
 * @throws {RangeError} for a name that cannot be, or a header above the format's limit
 *
 * @example
 * ```ts
 * import * as assert from "uvu/assert";
 * import { serialize } from "lowrank/safetensors";
 *
 * const bytes = serialize([["a", { dtype: "U8", shape: [], bytes: Uint8Array.of(7) }]]);
 * const header = '{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}'.padEnd(56);
 * assert.is(new TextDecoder().decode(bytes.subarray(8, 64)), header);
 * assert.equal([bytes[0], bytes[64]], [56, 7]);
 * ```
 */
export function serialize(
  tensors: Iterable<readonly [name: string, tensor: TensorView]>,
  metadata: Record<string, string> = {},
): Uint8Array {
  const entries = [...tensors].map(([name, tensor]) => ({ name, ...tensor }));
  const { bytes: header, rows } = writeHeader(entries, metadata);
  const data = PREFIX + header.length;
  const file = new Uint8Array(data + (rows.at(-1)?.end ?? 0));
  file.set(prefix(header));
  file.set(header, PREFIX);
  for (const row of rows) file.set(measured(row, row.bytes), data + row.begin);
  return file;
}

/**
 * Writes a file tensor by tensor: at every moment `path` is the old file or all of the new one.
 *
 * The same bytes as `serialize`, but only one tensor is in memory at a time. A temporary file beside
 * the target is filled, flushed and renamed over it; on an error it is removed.
 *
 * @throws {TypeError} for a dtype, shape, number of bytes or metadata that cannot be
 * @throws {RangeError} for a name that cannot be, or a header above the format's limit
 */
export async function write(
  path: string,
  entries: Iterable<TensorEntry>,
  metadata: Record<string, string> = {},
): Promise<void> {
  const { bytes: header, rows } = writeHeader([...entries], metadata);
  await replaceFile(path, async (put) => {
    await put(prefix(header));
    await put(header);
    for (const row of rows) await put(measured(row, await row.bytes()));
  });
}

function prefix(header: Uint8Array): Uint8Array {
  return new Uint8Array(BigUint64Array.of(BigInt(header.length)).buffer);
}

/** The bytes of a tensor, if they are as many as its place in the file. */
function measured(place: { name: string; begin: number; end: number }, bytes: Uint8Array) {
  const size = place.end - place.begin;
  if (bytes.length === size) return bytes;
  throw new TypeError(
    `Cannot write tensor "${place.name}" as its dtype and shape take ${size} bytes: ` +
      `current number of bytes is ${bytes.length}`,
  );
}

/**
 * Opens a file wherever it lies: its header is read and checked at once, each tensor when it is asked for.
 *
 * @throws {SyntaxError} naming the file, the tensor, the rule it breaks and the value found
 */
export async function open(place: Place): Promise<TensorFile> {
  const source = await openSource(place), { name: file, size, version } = source;
  try {
    const start = await source.read(0, Math.min(size, GLANCE));
    const head = await source.read(0, headerSize(start, size, { file }));
    const { tensors, metadata } = parseHeader(head, size, { file });
    const find = (name: string) => {
      const slot = tensors.get(name);
      if (slot) return slot;
      throw new RangeError(
        `Cannot read tensor "${name}" of "${file}" as it must be one of the file's: ` +
          `current names are ${[...tensors.keys()].slice(0, 8).join(", ")}` +
          (tensors.size > 8 ? ` and ${tensors.size - 8} more` : ""),
      );
    };
    const read = async (name: string) => {
      const { dtype, shape, start, end } = find(name);
      return { dtype, shape, bytes: await source.read(start, end) };
    };
    const pieces = async function* (name: string) {
      const { start, end } = find(name);
      for (let at = start; at < end; at += PIECE) {
        yield await source.read(at, Math.min(end, at + PIECE));
      }
    };
    const entry = (name: string) => {
      const { dtype, shape, start, end } = find(name);
      return { name, dtype, shape, bytes: () => readPart(place, version, start, end) };
    };
    const close = () => source.close();
    return { tensors, metadata, read, pieces, entry, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await source.close();
    throw error;
  }
}
