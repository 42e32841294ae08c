/**
 * The JSON header of a safetensors file: which tensors it holds, and free text about them.
 *
 * `{"__metadata__":{"key":"text"},"name":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}`
 *
 * Each row is judged by itself here; that the rows together cover the file is left to `safetensors.ts`.
 */
import { byteLength, type Dtype, DTYPES, isDtype } from "./dtypes.ts";
import { type Json, parseJson } from "./json.ts";

/** A tensor that is to be written. */
export interface Described {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
}

/** A tensor that a header describes: bytes `begin` up to `end`, counted from the first tensor's first. */
export interface Row extends Described {
  begin: number;
  end: number;
}

/** The reference's limit in bytes: no honest header comes near, and a lie must not fill the memory. */
export const LONGEST = 100_000_000;

const METADATA = "__metadata__";
const NAMES = Object.keys(DTYPES);

/** Refuses a part of a file: the rule it breaks, and what is found instead. */
export function malformed(part: string, file: string, rule: string, current: string): never {
  throw new SyntaxError(`Cannot read ${part} of "${file}" as ${rule}: current ${current}`);
}

/**
 * The rows and the metadata of a header, in its own order.
 *
 * @param bytes the header alone
 * @param file what errors call the file
 * @throws {SyntaxError} naming the file, the tensor, the rule it breaks and the value found
 */
export function readHeader(
  bytes: Uint8Array,
  file: string,
): { rows: Row[]; metadata: Record<string, string> } {
  const refuse = (rule: string, current: string) => malformed("the header", file, rule, current);
  const text = decode(bytes, refuse);
  if (text[0] !== "{") refuse('it starts with "{"', `start is ${show(text[0])}`);
  const json = parseJson(text, refuse) as Map<string, Json>; // it starts with "{"
  const metadata = readMetadata(json.get(METADATA) ?? new Map(), file);
  json.delete(METADATA);
  return { rows: [...json].map(([name, row]) => readRow(name, row, file)), metadata };
}

function decode(bytes: Uint8Array, refuse: (rule: string, current: string) => never): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    const legible = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    const repaired = new TextEncoder().encode(legible);
    const differs = bytes.findIndex((byte, index) => byte !== repaired[index]);
    const at = differs < 0 ? bytes.length - 1 : differs; // cut off where U+FFFD begins alike
    return refuse("it is UTF-8", `byte ${at} is 0x${bytes[at].toString(16)}`);
  }
}

function readMetadata(json: Json, file: string): Record<string, string> {
  const refuse = (current: string) =>
    malformed("the metadata", file, "it maps text to text", current);
  if (!(json instanceof Map)) return refuse(`metadata is ${show(json)}`);
  for (const [key, value] of json) {
    if (typeof value !== "string") refuse(`value of ${show(key)} is ${show(value)}`);
  }
  return Object.fromEntries(json as Map<string, string>);
}

function readRow(name: string, json: Json, file: string): Row {
  const refuse = (rule: string, current: string) =>
    malformed(`tensor ${show(name)}`, file, rule, current);
  if (!(json instanceof Map)) {
    return refuse("an object describes it", `description is ${show(json)}`);
  }
  const [dtype, shape, offsets] = ["dtype", "shape", "data_offsets"].map((key) => json.get(key));
  if (!isDtype(dtype)) return refuse(`dtype is one of ${NAMES}`, `dtype is ${show(dtype)}`);
  if (!areNumbers(shape)) return refuse("shape is a list of numbers", `shape is ${show(shape)}`);
  if (!areNumbers(offsets) || offsets.length !== 2 || offsets[0] > offsets[1]) {
    return refuse("data_offsets are a begin and an end", `data_offsets is ${show(offsets)}`);
  }
  const size = byteLength(dtype, shape);
  const [begin, end] = offsets;
  const what = `${dtype} of shape ${show(shape)}`;
  if (Number.isNaN(size)) refuse("it has fewer than 2^53 bits", `tensor is ${what}`);
  if (!Number.isInteger(size)) refuse("it fills whole bytes", `tensor is ${what}`);
  if (end - begin !== size) {
    refuse(`${what} takes ${size} bytes`, `data_offsets is ${show(offsets)}`);
  }
  return { name, dtype, shape, begin, end };
}

function areNumbers(json: Json | undefined): json is number[] {
  return Array.isArray(json) && json.every((item) => typeof item === "number");
}

/** A name or a value as errors show it: JSON, cut to one line's length. */
function show(json: Json | undefined): string {
  if (json === undefined) return "missing";
  const text = json instanceof Map ? "an object" : JSON.stringify(json);
  return text.length <= 100 ? text : `${text.slice(0, 100)}…`;
}

/**
 * A header's bytes, padded with spaces to a multiple of 8, and the tensors in the file's order: as given, or by dtype
 * from the last in `DTYPES` to the first, then by name.
 *
 * @throws {TypeError} for a dtype, shape or metadata that cannot be
 * @throws {RangeError} for a name that cannot be, or a header above the limit
 */
export function writeHeader<T extends Described>(
  tensors: readonly T[],
  metadata: Record<string, string>,
  order: "given" | "sorted" = "sorted",
): { bytes: Uint8Array; rows: (T & Row)[] } {
  checkMetadata(metadata);
  const taken = new Set([METADATA]);
  for (const tensor of tensors) {
    checkTensor(tensor, taken);
    taken.add(tensor.name);
  }
  const sorted = order === "given"
    ? tensors
    : tensors.toSorted((a, b) =>
      NAMES.indexOf(b.dtype) - NAMES.indexOf(a.dtype) || byCodePoint(a.name, b.name)
    );
  let end = 0;
  const rows = sorted.map((tensor) => {
    const begin = end;
    end += byteLength(tensor.dtype, tensor.shape);
    return { ...tensor, begin, end };
  });
  const texts = rows.map(({ name, dtype, shape, begin, end }) =>
    `${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, end] })}`
  );
  if (Object.keys(metadata).length > 0) {
    texts.unshift(`"${METADATA}":${JSON.stringify(metadata)}`);
  }
  const json = new TextEncoder().encode(`{${texts.join(",")}}`);
  const bytes = new Uint8Array(Math.ceil(json.length / 8) * 8).fill(" ".charCodeAt(0));
  bytes.set(json);
  if (bytes.length > LONGEST) {
    throw new RangeError(
      `Cannot write the header as it has at most ${LONGEST} bytes: current length is ${bytes.length}`,
    );
  }
  return { bytes, rows };
}

function checkMetadata(metadata: Record<string, string>): void {
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== "string" || !(key + value).isWellFormed()) {
      throw new TypeError(
        "Cannot write the metadata as it maps Unicode text to Unicode text: " +
          `current value of ${show(key)} is ${JSON.stringify(value)}`,
      );
    }
  }
}

function checkTensor({ name, dtype, shape }: Described, taken: Set<string>): void {
  const what = `Cannot write tensor ${show(name)}`;
  if (taken.has(name)) {
    throw new RangeError(`${what} as its name is its own: current name is taken`);
  }
  if (!name.isWellFormed()) {
    throw new RangeError(`${what} as its name is Unicode: current name has half a surrogate pair`);
  }
  if (!isDtype(dtype)) {
    throw new TypeError(`${what} as its dtype is one of ${NAMES}: current dtype is ${dtype}`);
  }
  if (!Number.isInteger(byteLength(dtype, shape))) {
    throw new TypeError(
      `${what} as its shape is whole numbers that fill whole bytes: ` +
        `current tensor is ${dtype} of shape [${shape}]`,
    );
  }
}

/** The order of the UTF-8 bytes. `<` compares UTF-16 units and puts U+FFFD after U+1F600. */
function byCodePoint(a: string, b: string): number {
  let at = 0;
  while (at < a.length && a[at] === b[at]) at++;
  return (a.codePointAt(at) ?? -1) - (b.codePointAt(at) ?? -1);
}
