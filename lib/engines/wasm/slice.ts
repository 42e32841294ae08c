/** Parts of a tensor, copied run by run; the backend copies all of it first. */
import * as tf from "@tensorflow/tfjs";
import { size } from "../../tensor/shape.ts";
import type { Call } from "./compose.ts";

/** x from `begin` on, of a size. */
export function slice(call: Call, shipped: (call: Call) => tf.TensorInfo): tf.TensorInfo {
  const { inputs: { x }, attrs, backend } = call;
  if (x.dtype === "string") return shipped(call);
  const asked = [attrs.begin, attrs.size] as [number[], number[]];
  const [begin, lengths] = tf.slice_util.parseSliceParams(x as tf.Tensor, ...asked);
  const y = backend.makeOutput(lengths, x.dtype);
  const from = backend.typedArrayFromHeap(x), to = backend.typedArrayFromHeap(y);
  const strides = x.shape.map((_, axis) => size(x.shape.slice(axis + 1)));
  // the axes after the last that is cut lie together, and so do those of the cut
  const cut = Math.max(0, lengths.findLastIndex((length, axis) => length !== x.shape[axis]));
  const run = size(lengths.slice(cut)), start = begin.map((at, axis) => at * strides[axis]);
  const first = start.reduce((sum, offset) => sum + offset, 0);
  for (let at = 0, row = 0; at < to.length; at += run, row++) {
    let offset = first, rest = row;
    for (let axis = cut - 1; axis >= 0; axis--) {
      offset += (rest % lengths[axis]) * strides[axis];
      rest = Math.floor(rest / lengths[axis]);
    }
    to.set(from.subarray(offset, offset + run), at);
  }
  return y;
}
