/** What other programs make of a file, beside what was trained: layer by layer, as a relative error. */
import * as tf from "@tensorflow/tfjs";
import { type Adapter, dispose } from "../adapter/adapter.ts";
import { conform } from "../adapter/conform.ts";
import { energyOf, scoped } from "../adapter/matrices.ts";
import { delta, merge } from "../adapter/merge.ts";
import { rowOf } from "../algorithms/table.ts";
import { adaptersOf, type ModuleFile, openModules, type OpenOptions } from "./adapter_modules.ts";
import type { Metadata } from "./dialect.ts";
import type { DialectName } from "./dialects.ts";
import { toFloat32 } from "./floats.ts";
import { forget } from "./hosts/formulas.ts";
import type { Change, Sight, StoredFile, StoredModule } from "./hosts/host.ts";
import { HOST_NAMES, type HostName, hostOf } from "./hosts/hosts.ts";
import { unflip } from "./layout.ts";
import type { Place } from "./source.ts";
import { standIn } from "./stand_in.ts";

/** What a host makes of a layer. */
export interface HostReading {
  /** whether it is what was trained, up to float32's rounding */
  right: boolean;
  /** ‖theirs − trained‖ / ‖trained‖ of W′ − W, the larger of those at strengths 1 and ½ */
  error?: number;
  /** the strength at which it is */
  strength?: number;
  /** theirs is at best so many times what was trained: 0 for nothing, ½ for half the strength */
  factor?: number;
  /** why it does not read the layer */
  refused?: string;
}

/** A layer as every host reads it. */
export interface DiagnosedLayer {
  name: string;
  algorithm: Adapter["algorithm"];
  /** where the kernel is from that ΔW depends on: "given", a random one as "stand-in"; "none" where it does not */
  base: "none" | "given" | "stand-in";
  hosts: Partial<Record<HostName, HostReading>>;
}

/** All layers as one host reads them. */
export interface HostVerdict {
  title: string;
  /** layers that it reads as trained, otherwise, and not at all */
  right: number;
  wrong: number;
  refused: number;
  /** the largest error */
  worst?: number;
  /** why it refuses, each once */
  reasons: string[];
}

/** What other programs make of a file. */
export interface Diagnosis {
  dialect: DialectName;
  layers: DiagnosedLayer[];
  hosts: Partial<Record<HostName, HostVerdict>>;
  /** keys that belong to no adapter */
  leftovers: string[];
}

/** How a file is examined. */
export interface DiagnoseOptions extends OpenOptions, Partial<Sight> {
  /** default all */
  hosts?: readonly HostName[];
  /** a layer's kernel in the library's layout, the tensor goes over; where there is none a random one stands in */
  base?: (name: string) => Promise<tf.Tensor | undefined>;
  /** told of every module that is done, of so many */
  onModule?: (done: number, all: number) => void;
}

/** float32's rounding, of ΔW and of W beside it. */
const ROUNDING = { delta: 1e-5, base: 5e-7 };

/**
 * What LyCORIS's merge, kohya's trainer, AUTOMATIC1111, ComfyUI, PEFT and diffusers compute from a file, and how far that
 * is from the trainer's forward (`lib/files/hosts`).
 *
 * Compared is W′ − W at strength 1, and of OFT and BOFT at ½ too, but for a rescaled one, whose meaning in between is
 * each program's own; biases are not. A host that finds a module by its name must know it: `names: false` passes that over.
 *
 * @throws {SyntaxError} for a file that is not safetensors, or factors that do not fit each other
 *
 * @example
 * ```ts
 * import { files, loha } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const born = loha.create([8, 16], 2, { alpha: 1, scalar: true });
 * const bytes = await files.encode(new Map([["lora_unet_mid_block_attentions_0_proj_in", born]]));
 * const { hosts } = await files.diagnose(bytes);
 * assert.is(hosts.comfyui!.right, 1);
 * assert.match(hosts.kohya!.reasons[0], /leaves other keys aside/);
 * ```
 */
export async function diagnose(place: Place, options: DiagnoseOptions = {}): Promise<Diagnosis> {
  const { base = () => Promise.resolve(undefined), onModule } = options;
  await using file = await openModules(place, options);
  const names = options.hosts ?? HOST_NAMES, readers = await opened(file, names, options);
  const layers: DiagnosedLayer[] = [], left = new Set(file.tensors.tensors.keys());
  let done = 0;
  for await (const { name, module, adapter, parts } of adaptersOf(file)) {
    const torch = await file.torch(module);
    try {
      const trained = asTrained(adapter, file.metadata);
      const kernel = await base(name);
      const stored = { module, parts, torch };
      layers.push({ name, ...examined(trained, stored, readers, kernel) });
    } finally {
      tf.dispose(torch);
      dispose(adapter);
    }
    for (const { key } of parts) left.delete(key);
    onModule?.(++done, file.modules.size);
  }
  const hosts = Object.fromEntries(names.map((host) => [host, verdict(host, layers)]));
  return { dialect: file.dialect, layers, hosts, leftovers: [...left] };
}

/** How a host reads modules, or why it does not open the file. */
type Reader = (stored: StoredModule) => Change;
type Readers = ReadonlyMap<HostName, Reader>;

/** Every host's way with the modules of a file. */
export async function opened(
  file: ModuleFile,
  names: readonly HostName[],
  { names: byName = true }: Partial<Sight>,
): Promise<Readers> {
  const stored = await storedFile(file), sight = { names: byName };
  return new Map(names.map((name) => [name, readerOf(name, stored, sight)]));
}

function readerOf(name: HostName, file: StoredFile, sight: Sight): Reader {
  try {
    return hostOf(name).open(file, sight);
  } catch (error) {
    return () => {
      throw error;
    };
  }
}

async function storedFile(
  { dialect, metadata, modules, tensors }: ModuleFile,
): Promise<StoredFile> {
  const alphas = new Map<string, number>();
  for (const [module, parts] of modules) {
    const key = parts.find(({ suffix }) => suffix === "alpha")?.key;
    if (key === undefined) continue;
    const { dtype, bytes } = await tensors.read(key);
    alphas.set(module, toFloat32(dtype, bytes)[0]);
  }
  return { dialect, metadata, modules, alphas, keys: [...tensors.tensors.keys()] };
}

/**
 * The adapter at the scale of its training.
 *
 * LyCORIS trains a DyLoRA at alpha / blocks, and stores alpha, which every reader divides by all ranks (its bug B3): a
 * LoRA whose file says that it was one.
 */
export function asTrained(adapter: Adapter, { ss_network_args: told }: Metadata): Adapter {
  if (adapter.algorithm !== "lora" || told === undefined) return adapter;
  try {
    const { algo, block_size: block = 4 } = JSON.parse(told);
    const size = Number(block);
    return algo === "dylora" && size >= 1 ? { ...adapter, alpha: adapter.alpha * size } : adapter;
  } catch {
    return adapter;
  }
}

/** W′ − W of an adapter over a kernel at a strength, in the library's layout. */
export function change(adapter: Adapter, W: tf.Tensor, strength: number): tf.Tensor {
  const { adapt } = rowOf(adapter.algorithm).algorithm;
  return adapter.dora || adapt
    ? tf.sub(merge(W, adapter, { strength }), W)
    : tf.mul(delta(adapter, W), strength);
}

const isRelative = ({ algorithm, dora }: Adapter) => rowOf(algorithm).relative || Boolean(dora);

/**
 * Strengths at which all programs should mean the same: 1, and ½ of a rotation, which some multiply by it twice; of all
 * other kinds every host takes s times what it takes at 1.
 */
function strengthsOf({ factors: { blocks, rescale } }: Adapter): number[] {
  return blocks && !rescale ? [1, 0.5] : [1];
}

/** A kernel in the place of one that is not at hand: zeros, where ΔW does not depend on it. */
export function kernelFor(adapter: Adapter): tf.Tensor {
  return isRelative(adapter) ? standIn(adapter) : tf.zeros([...adapter.shape]);
}

/** A layer as every reader has it; the kernel, where it is given, goes over. */
function examined(
  adapter: Adapter,
  stored: StoredModule,
  readers: Readers,
  kernel?: tf.Tensor,
): Omit<DiagnosedLayer, "name"> {
  const W = kernel ?? kernelFor(adapter);
  try {
    return {
      algorithm: adapter.algorithm,
      base: kernel ? "given" : isRelative(adapter) ? "stand-in" : "none",
      hosts: compared(adapter, W, stored, readers),
    };
  } finally {
    W.dispose();
  }
}

/** What each reader computes of a stored module, beside what an adapter was trained to be over a kernel. */
export function compared(
  adapter: Adapter,
  W: tf.Tensor,
  stored: StoredModule,
  readers: Readers,
  strengths: readonly number[] = strengthsOf(adapter),
): Partial<Record<HostName, HostReading>> {
  const trained = scoped(() => {
    const fitted = conform(adapter, W.shape);
    return strengths.map((s) => torchOf(change(fitted, W, s)).dataSync());
  });
  const base = isRelative(adapter) ? scoped(() => Math.sqrt(energyOf(W))) : 0;
  const torchW = torchOf(W);
  const read = (reader: Reader): HostReading => {
    try {
      const all = strengths.map((strength, i) => {
        const theirs = scoped(() => reader(stored)(torchW, strength).dataSync());
        return { strength, ...difference(theirs, trained[i], base) };
      });
      const worst = all.reduce((a, b) => b.error > a.error ? b : a);
      return { right: worst.error <= ROUNDING.delta, ...worst };
    } catch (error) {
      return { right: false, refused: error instanceof Error ? error.message : String(error) };
    }
  };
  try {
    return Object.fromEntries([...readers].map(([name, reader]) => [name, read(reader)]));
  } finally {
    forget(stored.torch);
    torchW.dispose();
  }
}

/** A kernel in PyTorch's layout. */
function torchOf(W: tf.Tensor): tf.Tensor {
  return W.rank < 2 ? tf.clone(W) : unflip(W);
}

/**
 * ‖theirs − trained‖ / ‖trained‖, and ⟨theirs, trained⟩ / ‖trained‖².
 *
 * @param base ‖W‖ where ΔW is W′ − W: what rounding of both leaves of that is no difference
 */
function difference(theirs: ArrayLike<number>, trained: ArrayLike<number>, base: number) {
  if (theirs.length !== trained.length) throw new TypeError("its difference is of another size");
  let missed = 0, shared = 0, all = 0;
  for (let i = 0; i < trained.length; i++) {
    missed += (theirs[i] - trained[i]) ** 2;
    shared += theirs[i] * trained[i];
    all += trained[i] * trained[i];
  }
  if (!Number.isFinite(missed)) throw new TypeError("its numbers are not finite");
  if (Math.sqrt(missed) <= ROUNDING.base * base) missed = 0;
  // where nothing was trained, whatever is added is all wrong
  if (all === 0) return { error: missed > 0 ? 1 : 0, factor: 1 };
  return { error: Math.sqrt(missed / all), factor: shared / all };
}

function verdict(host: HostName, layers: readonly DiagnosedLayer[]): HostVerdict {
  const readings = layers.map(({ hosts }) => hosts[host]!);
  const errors = readings.flatMap(({ error }) => error === undefined ? [] : [error]);
  return {
    title: hostOf(host).title,
    right: readings.filter(({ right }) => right).length,
    wrong: readings.filter(({ right, refused }) => !right && refused === undefined).length,
    refused: readings.filter(({ refused }) => refused !== undefined).length,
    ...(errors.length > 0 && { worst: Math.max(...errors) }),
    reasons: [...new Set(readings.flatMap(({ refused }) => refused ?? []))],
  };
}
