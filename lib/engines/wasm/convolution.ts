/**
 * The gradients of convolutions: that of the input as convolutions forward, which XNNPACK does fast, and
 * that of the weights as one long sum.
 *
 * Dilation is allowed in all of them, which TensorFlow.js's own gradients refuse.
 */
import type * as tf from "@tensorflow/tfjs";
import { same, type Shape } from "../../tensor/shape.ts";
import { axes, type Axis } from "../axes.ts";
import { accumulate, frame, pitchOf, type RowRun, spread } from "./accumulate.ts";
import { type Call, compose, type Run } from "./compose.ts";
import { COLUMNS } from "./vectors.ts";

/** What a call of a routine costs, in rows of a product. */
const CALL = 7;

/** Zeros before and after an axis, or where negative, elements left out. */
type Ends = [before: number, after: number];

/** x without what its ends leave out, and the padding that is left; cutting is rare, so it may copy. */
function cut(run: Run, x: tf.TensorInfo, ends: [rows: Ends, columns: Ends]) {
  const pad = [[0, 0], ...ends.map((pair) => pair.map((zeros) => Math.max(0, zeros))), [0, 0]];
  if (ends.flat().every((zeros) => zeros >= 0)) return { x, pad };
  const [rows, columns] = ends.map((pair) => pair.map((zeros) => Math.max(0, -zeros)));
  const [batch, height, width, channels] = x.shape;
  const size = [batch, height - rows[0] - rows[1], width - columns[0] - columns[1], channels];
  return { x: run("Slice", { x }, { begin: [0, rows[0], columns[0], 0], size }), pad };
}

/** The taps that reach the inputs `phase, phase + stride, …`, and how they, turned round, step over dy. */
interface Reach {
  first: number;
  step: number;
  dilation: number;
  ends: Ends;
}

/**
 * Input m·stride + phase meets tap t at output m + (phase + before − t·dilation) / stride where that is
 * whole; so every phase is a convolution of its own over dy, or nothing where no tap meets it.
 */
function reach({ input, output, taps, stride, dilation, before }: Axis, phase: number) {
  const offset = (tap: number) => (phase + before - tap * dilation) / stride;
  const meets = Array.from({ length: taps }, (_, tap) => tap)
    .filter((tap) => Number.isInteger(offset(tap)));
  if (meets.length === 0) return undefined;
  const step = meets.length > 1 ? meets[1] - meets[0] : taps;
  const between = meets.length > 1 ? step * dilation / stride : 1;
  const zeros = -offset(meets[meets.length - 1]);
  const length = Math.ceil(input / stride) + (meets.length - 1) * between;
  return {
    first: meets[0],
    step,
    dilation: between,
    ends: [zeros, length - output - zeros],
  } as Reach;
}

/** A convolution of dy by a part of the filter, transposed: what one phase of the input gradient is. */
type Transposed = (
  run: Run,
  taps: tf.TensorInfo,
  x: tf.TensorInfo,
  attributes: Record<string, unknown>,
) => tf.TensorInfo;

/**
 * Σ over outputs and taps of dy · W that meet each input: a convolution by the taps turned round, one for
 * every phase of the strides, so that no product is wasted on the zeros that a stride leaves between.
 *
 * @returns `[N, H, W, C]` for the C channels that `convolve` returns
 */
function scatter(
  { inputs: { dy, filter }, attrs }: Call,
  run: Run,
  channels: number,
  convolve: Transposed,
): tf.TensorInfo {
  const [batch, height, width] = attrs.inputShape as Shape;
  const [rows, columns] = axes(attrs.inputShape as Shape, filter.shape, attrs, dy.shape);
  const phased = rows.stride * columns.stride > 1;
  const high = Math.ceil(height / rows.stride), wide = Math.ceil(width / columns.stride);

  const phase = (row: number, column: number): tf.TensorInfo => {
    const h = reach(rows, row), w = reach(columns, column);
    const shape = [batch, high, wide, channels];
    if (!h || !w) return run("Fill", {}, { shape, value: 0, dtype: "float32" });
    const taps = phased ? pick(run, filter, h, w) : filter;
    const turned = run("Reverse", { x: taps }, { dims: [0, 1] });
    const { x, pad } = cut(run, dy, [h.ends, w.ends]);
    const dilations = [h.dilation, w.dilation];
    return convolve(run, turned, x, { strides: 1, pad, dilations, dataFormat: "NHWC" });
  };
  if (!phased) return phase(0, 0);

  // the phases of the columns side by side are the columns in order, and so are those of the rows
  const lines = Array.from({ length: rows.stride }, (_, row) => {
    const parts = Array.from({ length: columns.stride }, (_, column) => phase(row, column));
    const line = run("Concat", parts, { axis: 3 });
    return run("Reshape", { x: line }, { shape: [batch, high, wide * columns.stride * channels] });
  });
  const all = run("Concat", lines, { axis: 2 });
  const x = run("Reshape", { x: all }, {
    shape: [batch, high * rows.stride, wide * columns.stride, channels],
  });
  return run("Slice", { x }, { begin: [0, 0, 0, 0], size: [batch, height, width, channels] });
}

/** Every `step`th tap of both axes. */
function pick(run: Run, x: tf.TensorInfo, h: Reach, w: Reach): tf.TensorInfo {
  return run("StridedSlice", { x }, {
    begin: [h.first, w.first, 0, 0],
    end: x.shape,
    strides: [h.step, w.step, 1, 1],
    ...{ beginMask: 0, endMask: 0, ellipsisMask: 0, newAxisMask: 0, shrinkAxisMask: 0 },
  });
}

/** ∂L/∂x of a convolution: dy by the kernel turned round, inputs and outputs exchanged. */
export function backpropInput(call: Call): tf.TensorInfo {
  const [, , channels] = call.inputs.filter.shape;
  return compose(call.backend, (run) =>
    scatter(call, run, channels, (run, taps, x, attributes) => {
      const filter = run("Transpose", { x: taps }, { perm: [0, 1, 3, 2] });
      return run("Conv2D", { x, filter }, attributes);
    }));
}

/** ∂L/∂x of a depthwise convolution: dy by the kernel turned round, then the sum of each channel's M. */
export function depthwiseBackpropInput(call: Call): tf.TensorInfo {
  const [, , channels, each] = call.inputs.filter.shape;
  return compose(call.backend, (run) => {
    const wide = scatter(call, run, channels * each, (run, taps, x, attributes) => {
      const shape = [...taps.shape.slice(0, 2), channels * each, 1];
      const filter = run("Reshape", { x: taps }, { shape });
      return run("DepthwiseConv2dNative", { x, filter }, attributes);
    });
    if (each === 1) return wide;
    const split = run("Reshape", { x: wide }, {
      shape: [...wide.shape.slice(0, 3), channels, each],
    });
    return run("Sum", { x: split }, { axis: [4], keepDims: false });
  });
}

/**
 * ∂L/∂W of a convolution: each tap's inputs, which lie a fixed way from one another in x with its zeros
 * around it, times dy.
 *
 * Without strides dy is laid out as wide as x, so that all of it is one run of rows; the zeros that this
 * adds cost less than a call for every row does.
 */
export function backpropFilter({ inputs: { x, dy }, attrs, backend }: Call): tf.TensorInfo {
  const shape = attrs.filterShape as Shape, [kh, kw, inputs, outputs] = shape;
  const [rows, columns] = axes(x.shape, shape, attrs, dy.shape);
  const [batch] = x.shape;
  /** as much of the axis as the taps meet, zeros before and after it included */
  const reached = ({ taps, dilation, stride, output, input, before }: Axis) =>
    Math.max((taps - 1) * dilation + (output - 1) * stride + 1, input + before);
  const high = reached(rows), wide = reached(columns);
  const flat = rows.stride * columns.stride === 1 &&
    high * wide < rows.output * (columns.output + CALL);
  const pitch = pitchOf(outputs, kh * kw * inputs);
  const layout = flat
    ? [high, wide, pitch] as const
    : [rows.output, columns.output, pitch] as const;
  const fits = (tensor: tf.TensorInfo, shape: Shape) => same(tensor.shape.slice(1), shape);

  return compose(backend, (_, own) => {
    const around = [high, wide, spread(inputs, outputs / COLUMNS)] as const;
    const a = fits(x, around) ? x : own(frame(backend, x, around, [rows.before, columns.before]));
    const b = fits(dy, layout) ? dy : own(frame(backend, dy, layout));
    const offsets = Array.from({ length: kh * kw * inputs }, (_, index) => {
      const tap = Math.floor(index / inputs), row = Math.floor(tap / kw);
      const pixel = row * rows.dilation * wide + (tap % kw) * columns.dilation;
      return pixel * around[2] + index % inputs;
    });
    const runs: RowRun[] = [];
    if (flat) {
      const last = ((batch - 1) * high + rows.output - 1) * wide + columns.output;
      runs.push({ a: 0, b: 0, count: last });
    } else {
      for (let n = 0; n < batch; n++) {
        for (let p = 0; p < rows.output; p++) {
          const from = (n * high + p * rows.stride) * wide * around[2];
          const to = (n * rows.output + p) * columns.output * pitch;
          runs.push({ a: from, b: to, count: columns.output });
        }
      }
    }
    const step = columns.stride * around[2];
    return accumulate(backend, { a, offsets, step, b, pitch, runs, columns: outputs }, [...shape]);
  });
}
