/** Sums and means over the leading axes, as of a bias's gradient: XNNPACK's average of columns. */
import * as tf from "@tensorflow/tfjs";
import { size } from "../../tensor/shape.ts";
import { type Call, compose, type Run } from "./compose.ts";

/** Below so many elements the backend's own kernel is as fast. */
const SMALL = 4096;

/** The mean of every column of some matrices, `[parts, rows, C]` → `[parts, C]`. */
function means(run: Run, x: tf.TensorInfo, parts: number, rows: number): tf.TensorInfo {
  if (rows === 1) return x; // XNNPACK refuses an average of one
  const C = size(x.shape) / (parts * rows);
  const images = run("Reshape", { x }, { shape: [parts, rows, 1, C] });
  return run("AvgPool", { x: images }, { filterSize: [rows, 1], strides: 1, pad: "valid" });
}

/** The mean of every column, `[rows, C]` → `[C]`: of the means of parts, so that rounding stays small. */
function average(run: Run, x: tf.TensorInfo, rows: number): tf.TensorInfo {
  let parts = Math.floor(Math.sqrt(rows));
  while (rows % parts !== 0) parts--;
  return means(run, means(run, x, parts, rows / parts), 1, parts);
}

/** How many of the leading axes are summed away if those are all, and at least one axis stays; else 0. */
function leading({ inputs: { x }, attrs }: Call): number {
  const axes = tf.util.parseAxisParam(attrs.axis as number[], x.shape).sort((a, b) => a - b);
  const fits = axes.every((axis, index) => axis === index) && axes.length < x.shape.length;
  return fits && x.dtype === "float32" && size(x.shape) >= SMALL ? axes.length : 0;
}

/** Σ, or the mean, of x over the first axes. */
function columns(call: Call, axes: number, rows: number, scale: number): tf.TensorInfo {
  const { inputs: { x }, attrs: { keepDims }, backend } = call;
  const shape = [...(keepDims ? Array(axes).fill(1) : []), ...x.shape.slice(axes)];
  return compose(backend, (run) => {
    const a = average(run, x, rows);
    if (scale === 1) return run("Reshape", { x: a }, { shape });
    const b = run("Fill", {}, { shape: [], value: scale, dtype: "float32" });
    return run("Reshape", { x: run("Multiply", { a, b }) }, { shape });
  });
}

/** Σ of x over axes. */
export function sum(call: Call, shipped: (call: Call) => tf.TensorInfo): tf.TensorInfo {
  const axes = leading(call), rows = size(call.inputs.x.shape.slice(0, axes));
  return axes === 0 ? shipped(call) : columns(call, axes, rows, rows);
}

/** The mean of x over axes. */
export function mean(call: Call, shipped: (call: Call) => tf.TensorInfo): tf.TensorInfo {
  const axes = leading(call), rows = size(call.inputs.x.shape.slice(0, axes));
  return axes === 0 ? shipped(call) : columns(call, axes, rows, 1);
}
