/**
 * A checkpoint: the weights of a whole model, in one file, in shards with an index, or in a pipeline's folders.
 *
 * Headers are read first, tensors when they are asked for. Names from inside an index are names of files in its own
 * folder, or refused.
 */
import { readFile, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { tidy } from "../tensor/tidy.ts";
import { toFloat32 } from "./floats.ts";
import {
  type CheckpointModule,
  fromTorch,
  modelIn,
  modulesOf,
  scaleOf,
} from "./checkpoint_modules.ts";
import type { Model } from "./names.ts";
import { release } from "./release.ts";
import { open, type TensorFile, type TensorSlot, type TensorView } from "./safetensors.ts";
import { pathOf, type Place } from "./source.ts";

/** A file of a checkpoint. */
export interface CheckpointFile {
  /** below the checkpoint's folder; "" of a checkpoint that is one file */
  path: string;
  /** what its keys get before them, as several files may have the same */
  prefix: string;
  place: Place;
  tensors: TensorFile;
}

/** An open checkpoint, whose tensors are read when asked for. */
export interface Checkpoint extends AsyncDisposable {
  files: readonly CheckpointFile[];
  /** the folder that holds all of it; none of a checkpoint that is one file */
  folder?: string;
  /** every tensor by key; in a pipeline behind its network's name and a dot */
  tensors: ReadonlyMap<string, TensorSlot>;
  /** every module that has a weight, by its name in diffusers (`unet.conv_in`) or its own */
  modules: ReadonlyMap<string, CheckpointModule>;
  /** what its modules' names are looked up in: `rename(adapters, { to: "kohya", model })` */
  model: Model;
  /** One tensor, newly read; throws a RangeError when there is none of that name. */
  read(key: string): Promise<TensorView>;
  close(): Promise<void>;
}

/** Names of a network's weights in its folder, the first that is there. */
const WEIGHTS = [
  ...["diffusion_pytorch_model", "model"].flatMap((stem) => [
    `${stem}.safetensors`,
    `${stem}.safetensors.index.json`,
  ]),
  ...["diffusion_pytorch_model", "model"].map((stem) => `${stem}.fp16.safetensors`),
];

/** A pipeline's networks by the names of their folders. */
const NETWORKS = [
  ...["unet", "transformer", "prior", "decoder"],
  ...["text_encoder", "text_encoder_2", "text_encoder_3"],
];

const exists = (path: string) => stat(path).then(() => true, () => false);

/** The names of an index's shards, each once, in its order. */
async function shards(index: string): Promise<string[]> {
  const refuse = (rule: string, current: string): never => {
    throw new SyntaxError(`Cannot read the index "${index}" as ${rule}: current ${current}`);
  };
  const text = await readFile(index, "utf8");
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    refuse("it is JSON", `text is not: ${(error as Error).message}`);
  }
  const map = (json as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== "object" || map === null) {
    refuse("its weight_map names the file of each tensor", `weight_map is ${JSON.stringify(map)}`);
  }
  const names = [...new Set(Object.values(map as Record<string, unknown>))];
  const wrong = names.find((name) =>
    typeof name !== "string" || !/^[^/\\\0:]+\.safetensors$/.test(name)
  );
  if (wrong !== undefined) {
    refuse("a shard is a .safetensors file of its own folder", `name is ${JSON.stringify(wrong)}`);
  }
  return names as string[];
}

/** The files of the weights `name` in a folder: itself, or the shards that it is the index of. */
async function filesOf(folder: string, name: string): Promise<string[]> {
  return name.endsWith(".json") ? await shards(join(folder, name)) : [name];
}

async function weightsIn(folder: string): Promise<string | undefined> {
  for (const name of WEIGHTS) if (await exists(join(folder, name))) return name;
}

type Found = Omit<CheckpointFile, "tensors">;

/** Where the files of a checkpoint lie. */
async function find(place: Place): Promise<{ folder?: string; files: Found[] }> {
  const path = pathOf(place);
  if (path === undefined) return { files: [{ path: "", prefix: "", place }] };
  const isFolder = (await stat(path)).isDirectory();
  const folder = isFolder ? path : dirname(path);
  const within = (paths: string[], prefix = ""): Found[] =>
    paths.map((file) => ({ path: file, prefix, place: join(folder, file) }));
  if (!isFolder) {
    return path.endsWith(".json")
      ? { folder, files: within(await filesOf(folder, basename(path))) }
      : { files: [{ path: "", prefix: "", place }] };
  }
  const own = await weightsIn(folder);
  if (own !== undefined) return { folder, files: within(await filesOf(folder, own)) };
  const files: Found[] = [];
  for (const network of NETWORKS) {
    const name = await weightsIn(join(folder, network));
    if (name === undefined) continue;
    const paths = await filesOf(join(folder, network), name);
    files.push(...within(paths.map((file) => join(network, file)), `${network}.`));
  }
  if (files.length > 0) return { folder, files };
  throw new RangeError(
    `Cannot open the checkpoint "${path}" as a folder must have ${WEIGHTS[0]} or ${WEIGHTS[2]}, ` +
      `or folders ${NETWORKS[0]}, ${NETWORKS[4]} … that do: current folder has none`,
  );
}

/** The network that a folder's name says a file in it is. */
function networkOf(place: Place, folder?: string): string | undefined {
  const path = folder ?? (pathOf(place) === undefined ? "" : dirname(pathOf(place)!));
  return NETWORKS.find((name) => name === basename(path));
}

/**
 * Opens a checkpoint: a `.safetensors` file, an index of shards (`….safetensors.index.json`), a folder of a network, or
 * a folder of a diffusers pipeline; a file also as a URL, a Blob or its bytes.
 *
 * @throws {SyntaxError} for a file that is malformed, or an index that names anything but files beside it
 * @throws {RangeError} for a folder without weights
 *
 * @example
 * ```ts
 * import { files } from "lowrank";
 * import { serialize } from "lowrank/safetensors";
 * import * as assert from "uvu/assert";
 *
 * const zeros = (...shape: number[]) =>
 *   ({ dtype: "U8", shape, bytes: new Uint8Array(shape.reduce((a, b) => a * b)) }) as const;
 * const bytes = serialize([
 *   ["model.diffusion_model.input_blocks.0.0.weight", zeros(8, 4, 3, 3)],
 *   ["model.diffusion_model.input_blocks.0.0.bias", zeros(8)],
 * ]);
 * await using checkpoint = await files.openCheckpoint(bytes);
 * const { kind, shape } = checkpoint.modules.get("unet.conv_in")!;
 * assert.equal([kind, ...shape], ["conv", 3, 3, 4, 8]);
 * ```
 */
export async function openCheckpoint(place: Place): Promise<Checkpoint> {
  const { folder, files: found } = await find(place);
  const files: CheckpointFile[] = [];
  const close = async () => {
    for (const { tensors } of files) await tensors.close();
  };
  try {
    for (const file of found) files.push({ ...file, tensors: await open(file.place) });
    const tensors = new Map<string, TensorSlot>(), at = new Map<string, [TensorFile, string]>();
    for (const { path, prefix, tensors: file } of files) {
      for (const [key, slot] of file.tensors) {
        const name = prefix + key;
        if (tensors.has(name)) {
          throw new SyntaxError(
            `Cannot open the checkpoint "${folder}" as a tensor lies in one file: ` +
              `current tensor "${name}" lies in "${path}" too`,
          );
        }
        tensors.set(name, slot);
        at.set(name, [file, key]);
      }
    }
    const modules = modulesOf(tensors, networkOf(place, folder));
    const read = (name: string) => {
      const [file, key] = at.get(name) ?? [files[0].tensors, name];
      return file.read(key);
    };
    const model = modelIn(modules);
    return { files, folder, tensors, modules, model, read, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A module's share of a stored tensor, as float32. */
async function readValues(
  { read }: Checkpoint,
  key: string,
  third: CheckpointModule["third"],
): Promise<Float32Array> {
  const { dtype, bytes } = await read(key), values = toFloat32(dtype, bytes);
  release(bytes);
  const length = values.length / 3;
  return third === undefined ? values : values.subarray(third * length, (third + 1) * length);
}

/**
 * A module's kernel in this library's layout: `[...k, I/G, O]`, of a normalization `[C]`, as float32.
 *
 * @throws {TypeError} for a dtype that holds no single real numbers, or numbers with a scale beside them
 */
export async function readKernel(
  checkpoint: Checkpoint,
  module: CheckpointModule,
): Promise<tf.Tensor> {
  const scaled = scaleOf(checkpoint.tensors, module);
  if (scaled) {
    throw new TypeError(
      `Cannot read "${module.weight}" as its numbers must be the weights: ` +
        `current "${scaled}" scales them, convert the checkpoint to one without scales first`,
    );
  }
  const values = await readValues(checkpoint, module.weight, module.third);
  return tidy(() => fromTorch(module, values));
}

/** A module's bias `[O]` as float32; undefined where it has none. */
export async function readBias(
  checkpoint: Checkpoint,
  { bias, third }: CheckpointModule,
): Promise<tf.Tensor | undefined> {
  return bias === undefined ? undefined : tf.tensor1d(await readValues(checkpoint, bias, third));
}
