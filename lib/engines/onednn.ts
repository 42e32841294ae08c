/**
 * oneDNN under TensorFlow.js: Intel's library of CPU kernels, which PyTorch computes with too, through
 * foreign functions of Deno or Bun.
 *
 * Tensors lie in the `wasm` backend's heap, where both its kernels and oneDNN reach them without a copy;
 * every kernel that oneDNN does not take over is the `wasm` engine's. The heap ends at 4 GiB.
 */
import * as tf from "@tensorflow/tfjs";
import { NATIVE } from "../tensor/convolve.ts";
import { size } from "../tensor/shape.ts";
import { addresses, type Kernel } from "./onednn/context.ts";
import { kernels } from "./onednn/kernels.ts";
import { find, type Library } from "./onednn/library.ts";
import { primitives } from "./onednn/primitive.ts";
import * as wasm from "./wasm.ts";
import type { Backend, Call } from "./wasm/compose.ts";

/** The engine's name and its backend's. */
export const name = "onednn";

let library: Library | undefined;
let registered = false;

/** Where a oneDNN of version 2 or 3 opens: `LOWRANK_ONEDNN`, the user's cache, the system's libraries. */
export async function available(): Promise<true | string> {
  const heap = await wasm.available();
  if (heap !== true) return heap;
  try {
    library ??= await find();
    return true;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Registers the kernels, once, and selects the backend. */
export async function start(): Promise<void> {
  library ??= await find();
  if (!registered) register(library, await heap());
  registered = true;
  NATIVE.set(name, { dilations: true, groups: true, bias: true });
  await tf.setBackend(name);
}

/** The `wasm` backend: its tensors and those of this engine are the same. */
async function heap(): Promise<Backend> {
  await wasm.start();
  return tf.backend() as unknown as Backend;
}

function register(library: Library, backend: Backend): void {
  tf.registerBackend(name, () => backend as unknown as tf.KernelBackend);
  tf.copyRegisteredKernels(wasm.name, name);
  const context = {
    dnnl: library.dnnl,
    primitives: primitives(library),
    at: addresses(backend, library.ffi),
  };
  for (const [kernelName, kernel] of Object.entries(kernels(context))) replace(kernelName, kernel);
}

/** Puts a kernel in the place of the one that the backend has, for float32 tensors that are not empty. */
function replace(kernelName: string, kernel: Kernel): void {
  const config = tf.getKernel(kernelName, wasm.name);
  const shipped = config?.kernelFunc as unknown as (call: Call) => tf.TensorInfo;
  if (config) tf.unregisterKernel(kernelName, name);
  tf.registerKernel({
    kernelName,
    backendName: name,
    kernelFunc(parameters) {
      const call = parameters as unknown as Call;
      const fits = (x: tf.TensorInfo) => !x || (x.dtype === "float32" && size(x.shape) > 0);
      return Object.values(call.inputs).every(fits) ? kernel(call, shipped) : shipped(call);
    },
  });
}
