/** Sums and means over the leading axes, as of a bias's gradient: XNNPACK's average of columns. */
import * as tf from "@tensorflow/tfjs";
import { size } from "../../tensor/shape.ts";
import { type Call, compose, type Run } from "./compose.ts";

/** Below so many elements the backend's own kernel is as fast. */
const SMALL = 4096;

/** The mean of every column, `[a, b, C]` → `[1, 1, 1, C]`: over b, then over a, so that rounding stays small. */
function average(run: Run, x: tf.TensorInfo, a: number, b: number): tf.TensorInfo {
  const C = size(x.shape) / (a * b), fixed = { strides: 1, pad: "valid" };
  const lines = run("Reshape", { x }, { shape: [a, b, 1, C] });
  const means = run("AvgPool", { x: lines }, { filterSize: [b, 1], ...fixed });
  const column = run("Reshape", { x: means }, { shape: [1, a, 1, C] });
  return run("AvgPool", { x: column }, { filterSize: [a, 1], ...fixed });
}

/** How many of the leading axes are summed away if those are all, and at least one axis stays; else 0. */
function leading({ inputs: { x }, attrs }: Call): number {
  const axes = tf.util.parseAxisParam(attrs.axis as number[], x.shape).sort((a, b) => a - b);
  const fits = axes.every((axis, index) => axis === index) && axes.length < x.shape.length;
  return fits && x.dtype === "float32" && size(x.shape) >= SMALL ? axes.length : 0;
}

function columns(call: Call, count: number, scale: number): tf.TensorInfo {
  const { inputs: { x }, attrs: { keepDims }, backend } = call;
  const kept = x.shape.slice(count);
  return compose(backend, (run) => {
    const a = size(x.shape.slice(0, Math.ceil(count / 2)));
    const means = average(run, x, a, size(x.shape.slice(0, count)) / a);
    const factor = run("Fill", {}, { shape: [], value: scale, dtype: "float32" });
    const scaled = scale === 1 ? means : run("Multiply", { a: means, b: factor });
    return run("Reshape", { x: scaled }, {
      shape: keepDims ? [...Array(count).fill(1), ...kept] : kept,
    });
  });
}

/** Σ of x over axes. */
export function sum(call: Call, shipped: (call: Call) => tf.TensorInfo): tf.TensorInfo {
  const count = leading(call);
  return count === 0
    ? shipped(call)
    : columns(call, count, size(call.inputs.x.shape.slice(0, count)));
}

/** The mean of x over axes. */
export function mean(call: Call, shipped: (call: Call) => tf.TensorInfo): tf.TensorInfo {
  const count = leading(call);
  return count === 0 ? shipped(call) : columns(call, count, 1);
}
