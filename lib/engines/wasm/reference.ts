/** Copies that need none: tensors never change, so an unchanged one is the same memory once more. */
import type * as tf from "@tensorflow/tfjs";
import type { Call } from "./compose.ts";

/** x itself, with one more holder of its memory. */
export function identity({ inputs: { x }, backend }: Call): tf.TensorInfo {
  backend.incRef(x.dataId);
  return { dataId: x.dataId, shape: x.shape, dtype: x.dtype };
}

/** x in another type; in its own it is x itself. */
export function cast(call: Call, shipped: (call: Call) => tf.TensorInfo): tf.TensorInfo {
  return call.inputs.x.dtype === call.attrs.dtype ? identity(call) : shipped(call);
}
