/** Products of two matrices' columns: read once, where a multiplication and a sum read and write them thrice. */
import type * as tf from "@tensorflow/tfjs";
import { size } from "../../tensor/shape.ts";
import { type Call, floats } from "./compose.ts";
import { vectors } from "./vectors.ts";

/** Rows that are summed in float32, before the sum of such sums is in float64. */
const DEEP = 256;
/** Rows and columns that the routine takes at once. */
const BLOCK = 4;

/** Σ over rows of a ⊙ (b − shift), `[..., C]` → `[C]`. */
export function columnDot({ inputs: { a, b, shift }, backend }: Call): tf.TensorInfo {
  const C = a.shape[a.shape.length - 1], rows = size(a.shape) / C;
  const wide = C - C % BLOCK, high = wide > 0 ? rows - rows % BLOCK : 0;
  const result = backend.makeOutput([C], "float32");
  const pads = backend.makeOutput([2, C], "float32"); // sums of some rows, and the shift
  const scratch = floats(backend, pads).fill(0);
  if (shift) scratch.set(floats(backend, shift), C);
  const [left, right, sums] = [floats(backend, a), floats(backend, b), new Float64Array(C)];
  const [from, to, at] = [a, b, pads].map(({ dataId }) => backend.getMemoryOffset(dataId));
  const { columns } = vectors(backend);
  for (let row = 0; row < high; row += DEEP) {
    const count = Math.min(DEEP, high - row) / BLOCK, start = 4 * row * C;
    scratch.fill(0, 0, wide);
    columns(from + start, to + start, at + 4 * C, at, 4 * C, 4 * wide, count);
    for (let c = 0; c < wide; c++) sums[c] += scratch[c];
  }
  for (let row = 0; row < rows; row++) { // what fills no block
    for (let c = row < high ? wide : 0, i = row * C + c; c < C; c++, i++) {
      sums[c] += left[i] * (right[i] - scratch[C + c]);
    }
  }
  floats(backend, result).set(sums);
  backend.disposeData(pads.dataId);
  return result;
}
