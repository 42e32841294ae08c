/** A file of adapters: opened from anything that holds one, encoded, saved. */
import { readFile } from "node:fs/promises";
import * as tf from "@tensorflow/tfjs";
import { type Adapter, dispose } from "../adapter/adapter.ts";
import { fromFloat32, toFloat32 } from "./floats.ts";
import * as kohya from "./kohya.ts";
import { note, recall } from "./notes.ts";
import {
  type Dtype,
  parse,
  serialize,
  type TensorEntry,
  type TensorView,
  write,
} from "./safetensors.ts";

/** The key dialects that are read and written. */
export type Dialect = "kohya";

/** What a file of adapters holds. */
export interface AdapterFile {
  dialect: Dialect;
  /** by module name, in the order of the file; their tensors are the caller's */
  adapters: Map<string, Adapter>;
  metadata: Record<string, string>;
  /** tensors that belong to no adapter, by key: nothing is dropped silently */
  leftovers: Map<string, TensorView>;
}

/** How adapters are written. */
export interface SaveOptions {
  /** default "kohya" */
  dialect?: Dialect;
  /** of every factor; default "f32" */
  dtype?: "f32" | "f16" | "bf16";
  /** free text; left out, what kohya's readers look for: `ss_network_module`, `_dim`, `_alpha` */
  metadata?: Record<string, string>;
}

/** What a plain LyCORIS wrapper calls its modules; kohya's trainer has names of its own. */
const PREFIX = "lycoris_";
const KOHYA = /^lora_(unet|te\d?)_/;

/** A layer's name as the file's, which has no dots: `lycoris_block1_conv`, `lora_unet_…` as it is. */
function moduleName(layer: string): string {
  const plain = layer.replaceAll(".", "_");
  return KOHYA.test(plain) ? plain : PREFIX + plain;
}

/** The layer's name as far as the file's tells it. */
function plainName(module: string): string {
  return module.startsWith(PREFIX) ? module.slice(PREFIX.length) : module;
}

/** The modules of a file: their tensors by suffix. */
function grouped(tensors: ReadonlyMap<string, TensorView>): Map<string, Map<string, TensorView>> {
  const modules = new Map<string, Map<string, TensorView>>();
  for (const [key, tensor] of tensors) {
    const suffix = kohya.SUFFIXES.find((suffix) => key.endsWith(`.${suffix}`));
    if (!suffix) continue;
    const name = key.slice(0, -suffix.length - 1);
    modules.set(name, (modules.get(name) ?? new Map()).set(suffix, tensor));
  }
  return modules;
}

function decode({ dtype, shape, bytes }: TensorView): tf.Tensor {
  return tf.tensor(toFloat32(dtype, bytes), [...shape], "float32");
}

async function bytesOf(
  source: string | URL | Blob | ArrayBuffer | Uint8Array,
): Promise<Uint8Array> {
  if (source instanceof Uint8Array) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (source instanceof Blob) return new Uint8Array(await source.arrayBuffer());
  return new Uint8Array(await readFile(source));
}

/**
 * The adapters in a safetensors file of the kohya / LyCORIS dialect.
 *
 * A module that is not one whole adapter (half a pair, a key that no algorithm has) is left over as it is.
 *
 * @param source a path, a file URL, a Blob, or the bytes
 * @throws {SyntaxError} for a file that is not safetensors, or factors that do not fit each other
 */
export async function open(
  source: string | URL | Blob | ArrayBuffer | Uint8Array,
): Promise<AdapterFile> {
  const file = typeof source === "string" ? source : undefined;
  const { tensors, metadata } = parse(await bytesOf(source), { file });
  const adapters = new Map<string, Adapter>(), leftovers = new Map(tensors);
  try {
    for (const [module, views] of grouped(tensors)) {
      const found = readModule(module, views);
      if (!found) continue;
      const { name = plainName(module), adapter } = recall(metadata, module, found);
      adapters.set(name, adapter);
      for (const suffix of views.keys()) leftovers.delete(`${module}.${suffix}`);
    }
  } catch (error) {
    for (const adapter of adapters.values()) dispose(adapter);
    throw error;
  }
  return { dialect: "kohya", adapters, metadata, leftovers };
}

/** One module's adapter, or none. */
function readModule(module: string, views: ReadonlyMap<string, TensorView>): Adapter | undefined {
  const torch = Object.fromEntries([...views].map(([suffix, view]) => [suffix, decode(view)]));
  try {
    return kohya.read(torch);
  } catch (error) {
    throw new SyntaxError(
      `Cannot read the adapter "${module}" as its factors must fit each other: ` +
        (error instanceof Error ? error.message : error),
    );
  } finally {
    tf.dispose(torch);
  }
}

/** What kohya's readers look for. */
function described(adapters: ReadonlyMap<string, Adapter>): Record<string, string> {
  const all = [...adapters.values()];
  const one = <T>(values: T[]) =>
    values.every((value) => value === values[0]) ? values[0] : "Dynamic";
  return {
    ss_network_module: "lycoris.kohya",
    ss_network_dim: String(one(all.map(({ rank }) => rank))),
    ss_network_alpha: String(one(all.map(({ alpha }) => alpha))),
    ss_network_args: JSON.stringify({ algo: one(all.map(({ algorithm }) => algorithm)) }),
  };
}

const DTYPES: Record<NonNullable<SaveOptions["dtype"]>, Dtype> = {
  f32: "F32",
  f16: "F16",
  bf16: "BF16",
};

/** The tensors of a file in PyTorch's layout, each turned into bytes when its turn comes, and its metadata. */
interface Layout {
  entries: TensorEntry[];
  metadata: Record<string, string>;
  /** to dispose when all is written */
  tensors: tf.Tensor[];
}

function layOut(
  adapters: ReadonlyMap<string, Adapter>,
  { dtype = "f32", dialect = "kohya", metadata = described(adapters) }: SaveOptions,
): Layout {
  const refuse = (what: string, known: readonly string[], value: string) => {
    throw new RangeError(
      `Cannot save adapters as ${what} must be one of ${
        known.join(", ")
      }: current ${what} is ${value}`,
    );
  };
  if (!(dtype in DTYPES)) refuse("dtype", Object.keys(DTYPES), dtype);
  if (dialect !== "kohya") refuse("dialect", ["kohya"], dialect);
  const notes: Record<string, unknown> = {}, entries: TensorEntry[] = [], tensors: tf.Tensor[] = [];
  for (const [layer, adapter] of adapters) {
    const module = moduleName(layer), torch = kohya.write(adapter);
    const kept = note(layer, adapter, torch);
    if (kept) notes[module] = kept;
    for (const [suffix, tensor] of Object.entries(torch)) {
      const stored = tensor.dtype === "int32" ? "I64" : DTYPES[dtype];
      const bytes = async () => fromFloat32(stored, Float32Array.from(await tensor.data()));
      entries.push({ name: `${module}.${suffix}`, dtype: stored, shape: tensor.shape, bytes });
      tensors.push(tensor);
    }
  }
  const { lowrank: _old, ...told } = metadata;
  if (Object.keys(notes).length > 0) told.lowrank = JSON.stringify(notes);
  return { entries, metadata: told, tensors };
}

/** The bytes of a file of adapters. */
export async function encode(
  adapters: ReadonlyMap<string, Adapter>,
  options: SaveOptions = {},
): Promise<Uint8Array> {
  const { entries, metadata, tensors } = layOut(adapters, options);
  try {
    const views = entries.map(async ({ name, dtype, shape, bytes }) =>
      [name, { dtype, shape, bytes: await bytes() }] as const
    );
    return serialize(await Promise.all(views), metadata);
  } finally {
    tf.dispose(tensors);
  }
}

/**
 * Writes adapters as a safetensors file, a tensor at a time; an interrupted run leaves the old file.
 *
 * @throws {RangeError} for a dtype that is not f32, f16 or bf16
 */
export async function save(
  path: string,
  adapters: ReadonlyMap<string, Adapter>,
  options: SaveOptions = {},
): Promise<void> {
  const { entries, metadata, tensors } = layOut(adapters, options);
  try {
    await write(path, entries, metadata);
  } finally {
    tf.dispose(tensors);
  }
}
