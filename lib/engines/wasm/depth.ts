/**
 * Convolution in three dimensions and its gradients, as a sum over the kernel's depth of convolutions in
 * two: the backend's own are loops, and its gradients know no dilation.
 */
import type * as tf from "@tensorflow/tfjs";
import { type Shape, size } from "../../tensor/shape.ts";
import { axes, type Axis } from "../axes.ts";
import { type Backend, type Call, compose, floats, type Run } from "./compose.ts";

/** For each output frame of a tap of the depth: which frame of the input it meets, if any. */
function meets({ input, output, stride, dilation, before }: Axis, tap: number, batch: number) {
  const frames: { of: number; at: number }[] = [];
  for (let n = 0; n < batch; n++) {
    for (let p = 0; p < output; p++) {
      const d = p * stride + tap * dilation - before;
      if (d >= 0 && d < input) frames.push({ of: n * input + d, at: n * output + p });
    }
  }
  return frames;
}

/** What a tap of the depth sees of x `[N, D, H, W, I]`: `[N·out, H, W, I]`, zeros in the padding. */
function frames(backend: Backend, x: tf.TensorInfo, depth: Axis, tap: number): tf.TensorInfo {
  const [batch, , ...plane] = x.shape, length = size(plane);
  const seen = backend.makeOutput([batch * depth.output, ...plane], "float32");
  const from = floats(backend, x), to = floats(backend, seen).fill(0);
  for (const { of, at } of meets(depth, tap, batch)) {
    to.set(from.subarray(of * length, (of + 1) * length), at * length);
  }
  return seen;
}

/** Adds back to x what {@link frames} took from it for a tap. */
function deposit(
  from: Float32Array,
  to: Float32Array,
  length: number,
  frames: ReturnType<typeof meets>,
) {
  for (const { of, at } of frames) {
    for (let i = 0; i < length; i++) to[of * length + i] += from[at * length + i];
  }
}

/** The convolution in the plane that a convolution in depth is at each of its taps. */
function plane(rows: Axis, columns: Axis) {
  const after = ({ taps, dilation, stride, output, input, before }: Axis) =>
    Math.max(0, (output - 1) * stride + (taps - 1) * dilation + 1 - input - before);
  return {
    strides: [rows.stride, columns.stride],
    dilations: [rows.dilation, columns.dilation],
    pad: [[0, 0], [rows.before, after(rows)], [columns.before, after(columns)], [0, 0]],
    dataFormat: "NHWC",
  };
}

/** W[tap] `[kh, kw, I, O]` of a kernel `[kd, kh, kw, I, O]`. */
function slab(run: Run, filter: tf.TensorInfo, tap: number): tf.TensorInfo {
  const [, ...shape] = filter.shape;
  const x = run("Slice", { x: filter }, { begin: [tap, 0, 0, 0, 0], size: [1, ...shape] });
  return run("Reshape", { x }, { shape });
}

/** `[N, D, H, W, C]` → `[N·D, H, W, C]`. */
function flat(run: Run, x: tf.TensorInfo): tf.TensorInfo {
  const [batch, depth, ...rest] = x.shape;
  return run("Reshape", { x }, { shape: [batch * depth, ...rest] });
}

/** y = Σ over taps a of the depth of conv2d(frames that a sees, W[a]). */
export function convolution({ inputs: { x, filter }, attrs, backend }: Call): tf.TensorInfo {
  const [depth, rows, columns] = axes(x.shape, filter.shape, attrs);
  const attributes = plane(rows, columns);
  return compose(backend, (run, own) => {
    let sum: tf.TensorInfo | undefined;
    for (let tap = 0; tap < depth.taps; tap++) {
      const seen = own(frames(backend, x, depth, tap));
      const y = run("Conv2D", { x: seen, filter: slab(run, filter, tap) }, attributes);
      sum = sum ? run("Add", { a: sum, b: y }) : y;
    }
    const shape = [x.shape[0], depth.output, rows.output, columns.output, filter.shape[4]];
    return run("Reshape", { x: sum! }, { shape });
  });
}

/** ∂L/∂x: what each tap of the depth gives back to the frames it saw, summed. */
export function depthBackpropInput({ inputs: { dy, filter }, attrs, backend }: Call) {
  const shape = attrs.inputShape as Shape, [batch, , ...frame] = shape;
  const [depth, rows, columns] = axes(shape, filter.shape, attrs, dy.shape);
  const attributes = { ...plane(rows, columns), inputShape: [batch * depth.output, ...frame] };
  return compose(backend, (run) => {
    const errors = flat(run, dy);
    const parts = Array.from(
      { length: depth.taps },
      (_, tap) =>
        run("Conv2DBackpropInput", { dy: errors, filter: slab(run, filter, tap) }, attributes),
    );
    const gradient = backend.makeOutput([...shape], "float32");
    const to = floats(backend, gradient).fill(0);
    parts.forEach((part, tap) =>
      deposit(floats(backend, part), to, size(frame), meets(depth, tap, batch))
    );
    return gradient;
  });
}

/** ∂L/∂W: the gradient in the plane for the frames that each tap of the depth saw. */
export function depthBackpropFilter({ inputs: { x, dy }, attrs, backend }: Call): tf.TensorInfo {
  const shape = attrs.filterShape as Shape, [, ...filterShape] = shape;
  const [depth, rows, columns] = axes(x.shape, shape, attrs, dy.shape);
  const attributes = { ...plane(rows, columns), filterShape };
  return compose(backend, (run, own) => {
    const errors = flat(run, dy);
    const slabs = Array.from({ length: depth.taps }, (_, tap) => {
      const seen = own(frames(backend, x, depth, tap));
      return run("Conv2DBackpropFilter", { x: seen, dy: errors }, attributes);
    });
    return run("Reshape", { x: run("Concat", slabs, { axis: 0 }) }, { shape: [...shape] });
  });
}
