/** The sum of rows by segment: the gradient of gather, and so of every embedding. */
import type * as tf from "@tensorflow/tfjs";
import { size } from "../../tensor/shape.ts";
import { type Call, floats } from "./compose.ts";

/** y[s] = Σ of x[i] over all i whose segment is s: x `[rows, ...]` → `[segments, ...]`. */
export function segmentSum({ inputs: { x, segmentIds }, attrs, backend }: Call): tf.TensorInfo {
  const segments = attrs.numSegments as number;
  const inner = x.shape.slice(segmentIds.shape.length), width = size(inner);
  const sum = backend.makeOutput([segments, ...inner], "float32");
  const from = floats(backend, x), to = floats(backend, sum).fill(0);
  const ids = backend.typedArrayFromHeap(segmentIds);
  for (let row = 0; row < ids.length; row++) {
    const segment = ids[row];
    if (segment < 0 || segment >= segments) continue;
    for (let i = 0; i < width; i++) to[segment * width + i] += from[row * width + i];
  }
  return sum;
}
