/**
 * TensorFlow under TensorFlow.js, on the CPU or a GPU with CUDA: Python's package by its C API, through
 * foreign functions of Deno or Bun, without Python and without an addon.
 *
 * Tensors are handles of TensorFlow. A kernel that it lacks computes in the `cpu` backend.
 */
import * as tf from "@tensorflow/tfjs";
import { environment } from "./environment.ts";
import { addon, adopt } from "./tensorflow/addon.ts";
import { start as startLibrary, type TensorFlow } from "./tensorflow/api.ts";
import { Backend } from "./tensorflow/backend.ts";
import { register } from "./tensorflow/kernels.ts";
import { accelerated, find as findLibrary, threads } from "./tensorflow/library.ts";

/** The engine's name and its backend's. */
export const name = "tensorflow";

/** Starts what was found. */
let found: (() => TensorFlow) | undefined;
let context: TensorFlow | undefined;

/** A backend of this name that the program registered itself, as tfjs-node does. */
const registered = () => tf.engine().registryFactory[name] !== undefined;

/** Python's library; where that is not found, the addon of an installed tfjs-node(-gpu). */
async function find(): Promise<() => TensorFlow> {
  try {
    const library = await findLibrary();
    return () => startLibrary(library, threads());
  } catch (error) {
    const binding = environment("LOWRANK_LIBTENSORFLOW") ? undefined : addon();
    if (!binding) throw error;
    return () => adopt(binding);
  }
}

/** Where `LOWRANK_LIBTENSORFLOW`, the active venv, the user's cache or tfjs-node has it, and it opens. */
export async function available(): Promise<true | string> {
  if (registered()) return true;
  try {
    found ??= await find();
    return true;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Registers the kernels, once, and selects the backend. */
export async function start(): Promise<void> {
  if (!registered()) {
    const started = context ??= (found ??= await find())();
    register(name);
    tf.registerBackend(name, () => new Backend(started));
  }
  await tf.setBackend(name);
}

/** On a GPU it is the fastest. */
export const preferred = accelerated;

/** The version, and the GPU or that there is none; of a backend from outside nothing is known. */
export function device(): string | undefined {
  return context && `TensorFlow ${context.version} on ${context.gpu ?? "the CPU"}`;
}

/** Keeps a tensor's numbers in bfloat16; TensorFlow makes float32 of them where they are used. */
export function halve(tensor: tf.Tensor): void {
  const backend = tf.backend();
  if (backend instanceof Backend) return backend.halve(tensor.dataId);
  throw new TypeError(
    `Cannot halve a tensor as engine "tensorflow" must hold it: current backend is not this library's`,
  );
}
