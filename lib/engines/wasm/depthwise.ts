/** The weight gradient of a depthwise convolution, `[kh, kw, C, M]`: M outputs of each channel. */
import type * as tf from "@tensorflow/tfjs";
import type { Shape } from "../../tensor/shape.ts";
import { axes, type Axis } from "../axes.ts";
import { type Call, floats } from "./compose.ts";
import { vectors } from "./vectors.ts";

/** The outputs from `first` up to `end` at which a tap lies inside the input, and not in the padding. */
function inside({ input, output, stride, dilation, before }: Axis, tap: number) {
  const shift = tap * dilation - before;
  return {
    shift,
    first: Math.max(0, Math.ceil(-shift / stride)),
    end: Math.min(output, Math.ceil((input - shift) / stride)),
  };
}

/** A row of outputs, and of what a tap sees for it, both in floats from the beginning of their tensor. */
interface Row {
  tap: number;
  x: number;
  dy: number;
  count: number;
}

/** Every row of outputs for every tap, without what lies in the padding. */
function* rowsOf(
  x: Shape,
  [kh, kw, channels, each]: Shape,
  rows: Axis,
  columns: Axis,
): Generator<Row> {
  for (let n = 0; n < x[0]; n++) {
    for (let tap = 0; tap < kh * kw; tap++) {
      const h = inside(rows, Math.floor(tap / kw)), w = inside(columns, tap % kw);
      for (let p = h.first; p < h.end; p++) {
        const row = (n * rows.input + p * rows.stride + h.shift) * columns.input;
        const seen = (row + w.first * columns.stride + w.shift) * channels;
        const dy = ((n * rows.output + p) * columns.output + w.first) * channels * each;
        if (w.end > w.first) yield { tap, x: seen, dy, count: w.end - w.first };
      }
    }
  }
}

/** ∂L/∂W[a, b, c, m] = Σ over n, p, q of x[n, p·stride + a·dilation − before, …, c] · dy[n, p, q, c·M + m]. */
export function depthwiseBackpropFilter(
  { inputs: { x, dy }, attrs, backend }: Call,
): tf.TensorInfo {
  const shape = attrs.filterShape as Shape, [, , channels, each] = shape;
  const [rows, columns] = axes(x.shape, shape, attrs, dy.shape);
  const gradient = backend.makeOutput([...shape], "float32");
  const result = floats(backend, gradient).fill(0);
  const step = columns.stride * channels, wide = channels * each;
  const seen = rowsOf(x.shape, shape, rows, columns);
  if (each === 1 && channels % 4 === 0) {
    const [from, error, to] = [x, dy, gradient].map(({ dataId }) =>
      backend.getMemoryOffset(dataId)
    );
    const { dot } = vectors(backend);
    for (const row of seen) {
      const a = from + 4 * row.x, b = error + 4 * row.dy, sum = to + 4 * row.tap * wide;
      for (let c = 0; c < 4 * channels; c += 16) {
        dot(a + c, 4 * step, b + c, 4 * wide, row.count, sum + c);
      }
    }
    return gradient;
  }
  const from = floats(backend, x), error = floats(backend, dy);
  const sums = new Float64Array(result.length);
  for (const row of seen) {
    for (let q = 0; q < row.count; q++) {
      const a = row.x + q * step, b = row.dy + q * wide, sum = row.tap * wide;
      for (let o = 0; o < wide; o++) {
        sums[sum + o] += from[a + Math.floor(o / each)] * error[b + o];
      }
    }
  }
  result.set(sums);
  return gradient;
}
