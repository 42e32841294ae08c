/** What every kernel on oneDNN works with. */
import * as tf from "@tensorflow/tfjs";
import type { Foreign } from "../ffi.ts";
import type { Backend, Call } from "../wasm/compose.ts";
import type { Dnnl, Unary } from "./api.ts";
import type { Primitives } from "./primitive.ts";

/** The library, the primitives that it has built, and where a tensor lies in this process. */
export interface Context {
  dnnl: Dnnl;
  primitives: Primitives;
  at(tensor: tf.TensorInfo): number;
}

/** A kernel; `shipped` is the `wasm` engine's of the same name. */
export type Kernel = (call: Call, shipped: (call: Call) => tf.TensorInfo) => tf.TensorInfo;

/** A tensor's address, which changes when the heap moves: it must be asked for after every allocation. */
export function addresses(backend: Backend, ffi: Foreign): Context["at"] {
  let heap: ArrayBufferLike | undefined, base = 0;
  return ({ dataId }) => {
    const { HEAPU8 } = backend.wasm;
    if (HEAPU8.buffer !== heap) {
      heap = HEAPU8.buffer;
      base = ffi.address(HEAPU8);
    }
    return base + backend.getMemoryOffset(dataId);
  };
}

/** The activation of a fused kernel, by TensorFlow.js's name, where oneDNN computes it with the product. */
export function activationOf({ activation, leakyreluAlpha }: Call["attrs"]): Unary | undefined {
  switch (activation) {
    case "relu":
      return { name: "relu", alpha: 0, beta: 0 };
    case "leakyrelu":
      return { name: "relu", alpha: leakyreluAlpha as number, beta: 0 };
    case "relu6":
      return { name: "clip", alpha: 0, beta: 6 };
    case "elu":
      return { name: "elu", alpha: 1, beta: 0 };
    case "sigmoid":
      return { name: "logistic", alpha: 0, beta: 0 };
  }
}

/** y, or prelu(y) where the fused kernel asks for it: its weights are beyond a primitive's activation. */
export function finish({ inputs, attrs, backend }: Call, y: tf.TensorInfo): tf.TensorInfo {
  if (attrs.activation !== "prelu") return y;
  const { kernelFunc } = tf.getKernel("Prelu", "wasm");
  const z = kernelFunc({ inputs: { x: y, alpha: inputs.preluActivationWeights }, backend });
  backend.disposeData(y.dataId);
  return z as tf.TensorInfo;
}
