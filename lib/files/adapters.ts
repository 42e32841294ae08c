/** A file of adapters: opened from anything that holds one, encoded, saved. */
import { mkdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { type Adapter, dispose } from "../adapter/adapter.ts";
import { convert } from "../adapter/convert.ts";
import { tidy } from "../tensor/tidy.ts";
import type { Metadata, Stored } from "./dialect.ts";
import { type DialectName, dialectOf, NAMES, recognize } from "./dialects.ts";
import { replaceFile } from "./disk.ts";
import { fromFloat32 } from "./floats.ts";
import { INSIDE } from "./folder.ts";
import { hashed } from "./hashes.ts";
import * as kohya from "./kohya.ts";
import { described } from "./lycoris.ts";
import { adaptersIn, adaptersOf, openModules, type OpenOptions } from "./adapter_modules.ts";
import type { Model } from "./names.ts";
import { note } from "./notes.ts";
import { CONFIG } from "./peft.ts";
import { type Dtype, serialize, type TensorEntry, type TensorView, write } from "./safetensors.ts";
import type { Place } from "./source.ts";
import { spell } from "./spell.ts";

export type { DialectName } from "./dialects.ts";
export type { OpenOptions } from "./adapter_modules.ts";
export { alike } from "./alike.ts";
export { openCheckpoint, readBias, readKernel } from "./checkpoint.ts";
export { diagnose } from "./doctor.ts";
export type {
  DiagnosedLayer,
  DiagnoseOptions,
  Diagnosis,
  HostReading,
  HostVerdict,
} from "./doctor.ts";
export type { HostName } from "./hosts/hosts.ts";
export { inspect } from "./inspect.ts";
export type { InspectedLayer, Inspection, InspectOptions, SpectrumSummary } from "./inspect.ts";
export { mergeInto, notesOf, unmergeFrom } from "./merge_into.ts";
export { modelOf, rename } from "./names.ts";
export { type Asked, parsePrompt, type Prompt } from "./prompt.ts";

/** What a file of adapters holds. */
export interface AdapterFile {
  dialect: DialectName;
  /** by the name that the file tells of the module, in the order of the file; their tensors are the caller's */
  adapters: Map<string, Adapter>;
  /** as it is in the file; `adapter_config.json` is the text of PEFT's configuration */
  metadata: Metadata;
  /** tensors that belong to no adapter, by key: nothing is dropped silently. Their bytes are read when asked for */
  leftovers: Map<string, TensorEntry>;
}

/** How adapters are written. */
export interface SaveOptions {
  /** default "kohya" */
  dialect?: DialectName;
  /** of every factor; default "f32" */
  dtype?: "f32" | "f16" | "bf16";
  /** free text; left out, what kohya's readers look for: `ss_network_module`, `_dim`, `_alpha` */
  metadata?: Metadata;
  /** tensors to be written as they are beside the adapters, as `open` leaves them over */
  leftovers?: ReadonlyMap<string, TensorEntry | TensorView>;
  /** whose names the adapters have, for a dialect that spells them in another way; default: found by the names */
  model?: Model;
  /** add kohya's hashes to the metadata; those that it has already are always made right */
  hashes?: boolean;
}

/**
 * The adapters in a file, of whichever dialect its keys are: kohya / LyCORIS, PEFT, diffusers, cloneofsimo.
 *
 * The header is read first, then each adapter's tensors; a module that is not one whole adapter (half a pair, a key
 * that no algorithm has) is left over as it is, unread.
 *
 * @param place a path, a folder of PEFT or diffusers, a URL (by HTTP ranges), a Blob, or the bytes
 * @throws {SyntaxError} for a file that is not safetensors, or factors that do not fit each other
 *
 * @example
 * ```ts
 * import { files, lora } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const given = new Map([["block.conv", lora.create([3, 3, 4, 8], 2)]]);
 * const bytes = await files.encode(given, { dialect: "peft", dtype: "f16" });
 *
 * const { dialect, adapters, leftovers } = await files.open(bytes);
 * assert.is(dialect, "peft");
 * assert.equal([...adapters.get("block.conv")!.shape], [3, 3, 4, 8]);
 * assert.is(leftovers.size, 0);
 * ```
 */
export async function open(place: Place, options: OpenOptions = {}): Promise<AdapterFile> {
  await using file = await openModules(place, options);
  const { dialect, metadata, tensors } = file, adapters = new Map<string, Adapter>();
  const leftovers = new Map([...tensors.tensors.keys()].map((key) => [key, tensors.entry(key)]));
  try {
    for await (const { name, adapter, parts } of adaptersOf(file)) {
      adapters.set(name, adapter);
      for (const { key } of parts) leftovers.delete(key);
    }
  } catch (error) {
    for (const adapter of adapters.values()) dispose(adapter);
    throw error;
  }
  return { dialect, adapters, metadata, leftovers };
}

const DTYPES: Record<NonNullable<SaveOptions["dtype"]>, Dtype> = {
  f32: "F32",
  f16: "F16",
  bf16: "BF16",
};

/** The tensors of a file in PyTorch's layout, each turned into bytes when its turn comes, and its metadata. */
interface Layout {
  entries: TensorEntry[];
  metadata: Metadata;
  /** to dispose when all is written */
  tensors: tf.Tensor[];
}

async function layOut(
  adapters: ReadonlyMap<string, Adapter>,
  options: SaveOptions,
): Promise<Layout> {
  const { dtype = "f32", dialect = "kohya", leftovers = new Map(), model } = options;
  const check = (what: string, known: readonly string[], value: string) => {
    if (known.includes(value)) return;
    throw new RangeError(
      `Cannot save adapters as ${what} must be one of ${
        known.join(", ")
      }: current ${what} is ${value}`,
    );
  };
  check("dtype", Object.keys(DTYPES), dtype);
  check("dialect", NAMES, dialect);
  const { hold, told: nameOf, write } = dialectOf(dialect);
  const { metadata = dialect === "kohya" ? described(adapters) : {} } = options;
  const { lowrank: _old, ...given } = metadata, notes: Record<string, unknown> = {};
  const store = (layer: string, adapter: Adapter): Stored => {
    // no dialect tells what is frozen from what is trained: it comes as ranks of its own
    const plain = adapter.factors.bornUp ? convert(adapter, "lora") : adapter;
    const held = hold(layer, plain), torch = kohya.write(held), { factors: _, ...rest } = held;
    const kept = note(layer, nameOf(layer), held, torch);
    if (kept) notes[nameOf(layer)] = kept;
    return { adapter: rest, torch };
  };
  const written = tidy(() => {
    const modules = [...spell(adapters, dialect, model)].map(([layer, adapter]) =>
      [layer, tidy(() => store(layer, adapter))] as const
    );
    return write(new Map(modules), given);
  });
  const tensors = written.tensors.map(([, tensor]) => tensor);
  const entries = written.tensors.map(([name, tensor]): TensorEntry => {
    const stored = tensor.dtype === "int32" ? "I64" : DTYPES[dtype];
    const bytes = async () => fromFloat32(stored, Float32Array.from(await tensor.data()));
    return { name, dtype: stored, shape: tensor.shape, bytes };
  });
  const noted: Metadata = Object.keys(notes).length > 0 ? { lowrank: JSON.stringify(notes) } : {};
  const told = { ...written.metadata, ...noted };
  if (leftovers.size > 0) {
    const keys = [...entries.map(({ name }) => name), ...leftovers.keys()];
    const found = recognize(keys, told);
    if (found !== dialect || adaptersIn(dialect, keys, told) !== adapters.size) {
      tf.dispose(tensors);
      throw new TypeError(
        `Cannot save adapters as ${dialect} as leftovers must not change how they are read: ` +
          `current leftovers are ${[...leftovers.keys()].slice(0, 5).join(", ")}, ` +
          "keep the file's own dialect, or leave them out",
      );
    }
  }
  for (const [name, { dtype, shape, bytes }] of leftovers) {
    const later = typeof bytes === "function" ? bytes : () => bytes;
    entries.push({ name, dtype, shape, bytes: later });
  }
  try {
    return {
      entries,
      metadata: await hashed(entries, told, options.hashes),
      tensors,
    };
  } catch (error) {
    tf.dispose(tensors);
    throw error;
  }
}

/**
 * The bytes of a file of adapters; PEFT's configuration is among its metadata.
 *
 * @throws {RangeError} for a dtype that is not f32, f16 or bf16, or a name that the model does not have
 * @throws {TypeError} for an adapter that the dialect cannot hold
 */
export async function encode(
  adapters: ReadonlyMap<string, Adapter>,
  options: SaveOptions = {},
): Promise<Uint8Array> {
  const { entries, metadata, tensors } = await layOut(adapters, options);
  try {
    const views: [string, TensorView][] = [];
    for (const { name, dtype, shape, bytes } of entries) {
      views.push([name, { dtype, shape, bytes: await bytes() }]);
    }
    return serialize(views, metadata);
  } finally {
    tf.dispose(tensors);
  }
}

/**
 * Writes adapters as a safetensors file, a tensor at a time; an interrupted run leaves the old file.
 *
 * With the dialect "peft" a path that does not end in `.safetensors` is a folder, which gets `adapter_model.safetensors`
 * and `adapter_config.json`.
 *
 * @throws {RangeError} for a dtype that is not f32, f16 or bf16, or a name that the model does not have
 * @throws {TypeError} for an adapter that the dialect cannot hold
 */
export async function save(
  path: string,
  adapters: ReadonlyMap<string, Adapter>,
  options: SaveOptions = {},
): Promise<void> {
  const { entries, metadata, tensors } = await layOut(adapters, options);
  try {
    const isFolder = options.dialect === "peft" && !path.endsWith(".safetensors");
    const file = isFolder ? join(path, INSIDE[0]) : path;
    if (options.dialect !== "peft" || basename(file) !== INSIDE[0]) {
      return await write(file, entries, metadata);
    }
    const { [CONFIG]: config, ...rest } = metadata;
    await mkdir(dirname(file), { recursive: true });
    await write(file, entries, rest);
    await replaceFile(
      join(dirname(file), CONFIG),
      (put) => put(new TextEncoder().encode(config)),
    );
  } finally {
    tf.dispose(tensors);
  }
}
