/** Products of two matrices' columns: read once, where a multiplication and a sum read and write them thrice. */
import type * as tf from "@tensorflow/tfjs";
import { size } from "../../tensor/shape.ts";
import { type Call, floats } from "./compose.ts";
import { vectors } from "./vectors.ts";

/** Bytes of both matrices' rows that stay in the cache while every line of columns is read. */
const CACHED = 2 ** 18;
/** Columns of a line. */
const LINE = 16;

/** Σ over rows of a ⊙ (b − shift), `[..., C]` → `[C]`. */
export function columnDot({ inputs: { a, b, shift }, backend }: Call): tf.TensorInfo {
  const C = a.shape[a.shape.length - 1], rows = size(a.shape) / C;
  const wide = Math.ceil(C / LINE) * LINE, whole = C - C % LINE;
  const sums = backend.makeOutput([C], "float32");
  const pads = backend.makeOutput([2, wide], "float32"); // the sums, and the shift
  const scratch = floats(backend, pads).fill(0);
  if (shift) scratch.set(floats(backend, shift), wide);
  const [from, to, at] = [a, b, pads].map(({ dataId }) => backend.getMemoryOffset(dataId));
  const { columns } = vectors(backend), deep = Math.max(1, Math.floor(CACHED / (8 * C)));
  for (let row = 0; row < rows; row += deep) {
    const count = Math.min(deep, rows - row), start = 4 * row * C;
    for (let c = 0; c < 4 * whole; c += 4 * LINE) {
      columns(from + start + c, to + start + c, at + 4 * wide + c, 4 * C, count, at + c);
    }
  }
  const [left, right] = [floats(backend, a), floats(backend, b)];
  for (let c = whole; c < C; c++) { // those that fill no line
    let sum = 0;
    for (let i = c; i < left.length; i += C) sum += left[i] * (right[i] - scratch[wide + c]);
    scratch[c] = sum;
  }
  floats(backend, sums).set(scratch.subarray(0, C));
  backend.disposeData(pads.dataId);
  return sums;
}
