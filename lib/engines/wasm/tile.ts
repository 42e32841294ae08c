/** A tensor again and again, where that is the same numbers one after another: copies, not a walk over each. */
import type * as tf from "@tensorflow/tfjs";
import type { Call } from "./compose.ts";

/** x, repeated along its first axis that is longer than 1, or along axes before it; others as the backend does. */
export function tile(call: Call, shipped: (call: Call) => tf.TensorInfo): tf.TensorInfo {
  const { inputs: { x }, attrs, backend } = call;
  const reps = attrs.reps as number[], axis = reps.findLastIndex((times) => times !== 1);
  const whole = reps.length === x.shape.length && x.dtype !== "string" &&
    x.shape.slice(0, axis).every((length) => length === 1);
  if (!whole) return shipped(call);
  const y = backend.makeOutput(x.shape.map((length, i) => length * reps[i]), x.dtype);
  const from = backend.typedArrayFromHeap(x), to = backend.typedArrayFromHeap(y);
  for (let at = 0; at < to.length; at += from.length) to.set(from, at);
  return y;
}
