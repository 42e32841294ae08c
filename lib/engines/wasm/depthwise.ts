/**
 * The weight gradient of a depthwise convolution, `[kh, kw, C, M]`: M outputs of each channel. XNNPACK
 * has nothing of this form (one product an element and tap, no matrix), so it is a loop over the heap.
 */
import type * as tf from "@tensorflow/tfjs";
import { type Shape, size } from "../../tensor/shape.ts";
import { axes, type Axis } from "../axes.ts";
import { type Call, floats } from "./compose.ts";

/** The outputs from `first` up to `end` at which a tap lies inside the input, and not in the padding. */
function inside({ input, output, stride, dilation, before }: Axis, tap: number) {
  const shift = tap * dilation - before;
  return {
    shift,
    first: Math.max(0, Math.ceil(-shift / stride)),
    end: Math.min(output, Math.ceil((input - shift) / stride)),
  };
}

/** ∂L/∂W[a, b, c, m] = Σ over n, p, q of x[n, p·stride + a·dilation − before, …, c] · dy[n, p, q, c·M + m]. */
export function depthwiseBackpropFilter(
  { inputs: { x, dy }, attrs, backend }: Call,
): tf.TensorInfo {
  const shape = attrs.filterShape as Shape, [kh, kw, channels, each] = shape;
  const [rows, columns] = axes(x.shape, shape, attrs, dy.shape);
  const gradient = backend.makeOutput([...shape], "float32");
  const from = floats(backend, x), error = floats(backend, dy);
  const sums = new Float64Array(size(shape)), wide = channels * each;
  for (let n = 0; n < x.shape[0]; n++) {
    for (let a = 0; a < kh; a++) {
      const h = inside(rows, a);
      for (let b = 0; b < kw; b++) {
        const w = inside(columns, b), tap = (a * kw + b) * wide;
        for (let p = h.first; p < h.end; p++) {
          const row = (n * rows.input + p * rows.stride + h.shift) * columns.input;
          for (let q = w.first; q < w.end; q++) {
            const at = (row + q * columns.stride + w.shift) * channels;
            const to = ((n * rows.output + p) * columns.output + q) * wide;
            if (each === 1) {
              for (let c = 0; c < channels; c++) sums[tap + c] += from[at + c] * error[to + c];
            } else {
              for (let o = 0; o < wide; o++) {
                sums[tap + o] += from[at + Math.floor(o / each)] * error[to + o];
              }
            }
          }
        }
      }
    }
  }
  floats(backend, gradient).set(sums);
  return gradient;
}
