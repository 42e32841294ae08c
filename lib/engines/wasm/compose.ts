/** Building one kernel of the `wasm` backend from others of it, without leaving tensors behind. */
import * as tf from "@tensorflow/tfjs";
import type { BackendWasm } from "@tensorflow/tfjs-backend-wasm";
import type { Shape } from "../../tensor/shape.ts";

/** The backend, with what Emscripten gives its module and its types leave out. */
export type Backend = Omit<BackendWasm, "wasm"> & {
  wasm: {
    HEAPU8: Uint8Array;
    _malloc(bytes: number): number;
    asm: { memory: WebAssembly.Memory };
    cwrap(name: string, returns: null, takes: readonly ("number" | "array")[]): unknown;
    tfjs: { disposeData(id: number): void };
  };
};

/** Runs a kernel of the backend; what it returns lives until the composition ends. */
export type Run = (
  kernel: string,
  inputs: Record<string, tf.TensorInfo> | tf.TensorInfo[],
  attributes?: Record<string, unknown>,
) => tf.TensorInfo;

/** What TensorFlow.js hands to a kernel. */
export interface Call {
  inputs: Record<string, tf.TensorInfo>;
  attrs: Record<string, unknown>;
  backend: Backend;
}

/** The tensor that `body` returns; every other one that it made with `run` or gave to `own` is disposed of. */
export function compose(
  backend: Backend,
  body: (run: Run, own: (tensor: tf.TensorInfo) => tf.TensorInfo) => tf.TensorInfo,
): tf.TensorInfo {
  const made: tf.TensorInfo[] = [];
  const own = (tensor: tf.TensorInfo) => {
    made.push(tensor);
    return tensor;
  };
  const run = (kernel: string, inputs: unknown, attrs: unknown = {}) => {
    const { kernelFunc } = tf.getKernel(kernel, "wasm");
    const call = { inputs, attrs, backend } as Parameters<typeof kernelFunc>[0];
    return own(kernelFunc(call) as tf.TensorInfo);
  };
  let result: tf.TensorInfo | undefined;
  try {
    return result = body(run, own);
  } finally {
    for (const tensor of made) if (tensor !== result) backend.disposeData(tensor.dataId);
  }
}

/** The numbers of a float32 tensor, in place; valid until the next allocation, which may move the heap. */
export function floats(backend: Backend, tensor: tf.TensorInfo): Float32Array {
  return backend.typedArrayFromHeap(tensor) as Float32Array;
}

/**
 * Calls `body` with tensors that are parts of others' memory, from an element on, and not copies: kernels
 * read them or write them in place.
 */
export function within(
  backend: Backend,
  parts: [whole: tf.TensorInfo, element: number, shape: Shape][],
  body: (...parts: tf.TensorInfo[]) => void,
): void {
  const tensors = parts.map(([whole, element, shape]) => {
    const offset = backend.getMemoryOffset(whole.dataId) + 4 * element;
    return backend.makeOutput([...shape], whole.dtype, offset);
  });
  try {
    body(...tensors);
  } finally {
    for (const { dataId } of tensors) { // forgotten, not freed: the memory is the whole's
      backend.wasm.tfjs.disposeData(backend.dataIdMap.get(dataId).id);
      backend.dataIdMap.delete(dataId);
    }
  }
}
