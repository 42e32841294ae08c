/** The modules of a file of adapters, read one at a time: what `open` collects, and what others look at and let go. */
import * as tf from "@tensorflow/tfjs";
import { type Adapter, dispose } from "../adapter/adapter.ts";
import { tidy } from "../tensor/tidy.ts";
import type { Metadata, Reading } from "./dialect.ts";
import { type DialectName, dialectOf, recognize } from "./dialects.ts";
import { toFloat32 } from "./floats.ts";
import { beside, fileAt, isPeft } from "./folder.ts";
import { KEYS } from "./keys.ts";
import * as kohya from "./kohya.ts";
import { recall } from "./notes.ts";
import { CONFIG } from "./peft.ts";
import { open as openTensors, type TensorFile, type TensorView } from "./safetensors.ts";
import type { Place } from "./source.ts";

/** What a file does not tell itself. */
export interface OpenOptions {
  /** PEFT's `adapter_config.json`, its text or what it holds; default: the file of that name beside the tensors */
  config?: string | object;
}

/** A tensor of a module: its key in the file, and kohya's suffix for it. */
export interface Part {
  key: string;
  suffix: string;
}

/** A module that is one whole adapter. */
export interface Found {
  /** the layer's name, as the file tells it */
  name: string;
  /** its tensors are the caller's */
  adapter: Adapter;
}

/** An open file whose modules are read when asked for. */
export interface ModuleFile extends AsyncDisposable {
  dialect: DialectName;
  /** as it is in the file; `adapter_config.json` is the text of PEFT's configuration */
  metadata: Metadata;
  /** the tensors of every module, by what all its keys begin with */
  modules: ReadonlyMap<string, readonly Part[]>;
  /** the file of tensors */
  tensors: TensorFile;
  /** A module's tensors as they are stored, by kohya's suffix, in PyTorch's layout; the caller's. */
  torch(module: string): Promise<kohya.Torch>;
  /** A module's adapter; none for keys that are no whole adapter, whose tensors are not read. */
  read(module: string): Promise<Found | undefined>;
}

function decode({ dtype, shape, bytes }: TensorView): tf.Tensor {
  return tf.tensor(toFloat32(dtype, bytes), [...shape], "float32");
}

/** Whether an algorithm has these suffixes and no others. */
function isWhole(suffixes: readonly string[]): boolean {
  return new Set(suffixes).size === suffixes.length &&
    Object.values(KEYS).some(({ required, optional }) =>
      required.some((group) =>
        group.every((suffix) => suffixes.includes(suffix)) &&
        suffixes.every((suffix) => group.includes(suffix) || optional.includes(suffix))
      )
    );
}

/**
 * Opens a file of adapters of whichever dialect: the header and PEFT's configuration are read, no tensor yet.
 *
 * @throws {SyntaxError} for a file that is not safetensors, or a configuration that is none
 */
export async function openModules(
  place: Place,
  { config }: OpenOptions = {},
): Promise<ModuleFile> {
  const source = await fileAt(place), tensors = await openTensors(source);
  try {
    const keys = [...tensors.tensors.keys()], metadata = { ...tensors.metadata };
    const told = config ??
      (isPeft(source, keys) ? metadata[CONFIG] ?? await beside(source) : undefined);
    if (told !== undefined) {
      metadata[CONFIG] = typeof told === "string" ? told : JSON.stringify(told);
    }
    const dialect = told === undefined ? recognize(keys, metadata) : "peft";
    return moduleFile(tensors, dialect, metadata);
  } catch (error) {
    await tensors.close();
    throw error;
  }
}

/** Keys by the module that they are of. */
function partsOf(locate: Reading["locate"], keys: Iterable<string>): Map<string, Part[]> {
  const modules = new Map<string, Part[]>();
  for (const key of keys) {
    const found = locate(key);
    if (!found) continue;
    const { module, suffix } = found;
    modules.set(module, [...modules.get(module) ?? [], { suffix, key }]);
  }
  return modules;
}

/** How many modules of a file with these keys and this metadata are read as adapters. */
export function adaptersIn(
  dialect: DialectName,
  keys: readonly string[],
  metadata: Metadata,
): number {
  const { locate, implied } = dialectOf(dialect).read(metadata);
  return [...partsOf(locate, keys).values()]
    .filter((parts) => isWhole([...parts.map(({ suffix }) => suffix), ...implied])).length;
}

function moduleFile(tensors: TensorFile, dialect: DialectName, metadata: Metadata): ModuleFile {
  const { locate, layer, implied, translate } = dialectOf(dialect).read(metadata);
  const modules = partsOf(locate, tensors.tensors.keys());
  const views = async (module: string) => {
    const all: [string, TensorView][] = [];
    for (const { suffix, key } of modules.get(module) ?? []) {
      all.push([suffix, await tensors.read(key)]);
    }
    return all;
  };
  const torch = async (module: string) =>
    Object.fromEntries((await views(module)).map(([suffix, view]) => [suffix, decode(view)]));
  const read = async (module: string) => {
    const suffixes = (modules.get(module) ?? []).map(({ suffix }) => suffix);
    if (!isWhole([...suffixes, ...implied])) return undefined;
    const found = readModule(module, await views(module), translate);
    if (!found) return undefined;
    const { name = layer(module), adapter } = recall(metadata, layer(module), found);
    return { name, adapter };
  };
  const close = () => tensors.close();
  return { dialect, metadata, modules, tensors, torch, read, [Symbol.asyncDispose]: close };
}

/** One module's adapter, or none. */
function readModule(
  module: string,
  views: readonly [suffix: string, view: TensorView][],
  translate: Reading["translate"],
): Adapter | undefined {
  try {
    return tidy(() => {
      const torch = Object.fromEntries(views.map(([suffix, view]) => [suffix, decode(view)]));
      return kohya.read(translate(module, torch));
    });
  } catch (error) {
    if (error instanceof SyntaxError) throw error;
    const found = views.map(([suffix, { shape }]) => `${suffix} [${shape}]`).join(", ");
    throw new SyntaxError(
      `Cannot read the adapter "${module}" as its factors must fit each other: ` +
        (error instanceof RangeError ? error.message : `current tensors are ${found}`),
    );
  }
}

/** Every whole adapter of a file, module by module; the adapter is the caller's, once it is given. */
export async function* adaptersOf(
  file: ModuleFile,
): AsyncGenerator<Found & { module: string; parts: readonly Part[] }> {
  const names = new Set<string>();
  for (const [module, parts] of file.modules) {
    const found = await file.read(module);
    if (!found) continue;
    if (names.has(found.name)) {
      dispose(found.adapter);
      continue;
    }
    names.add(found.name);
    yield { ...found, module, parts };
  }
}
