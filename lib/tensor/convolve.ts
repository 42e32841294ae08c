/**
 * One convolution for every base layer, with its two gradients: dense, conv1d, conv2d, conv3d, depthwise,
 * with stride, any padding, dilation and groups.
 *
 * TensorFlow.js has no gradient under dilation and no groups. What its kernels can do they do here, called by
 * name; an engine whose kernels can do more says so in {@link NATIVE}; the rest is `unfold` and a matrix
 * product, which is the definition.
 */
import * as tf from "@tensorflow/tfjs";
import { apart, together } from "./apart.ts";
import { type Extent, extent, type Geometry } from "./geometry.ts";
import { operation } from "./operation.ts";
import { inputs, outputs, type Shape, size, space } from "./shape.ts";
import { fold, kernelMatrix, matrixKernel, unfold } from "./unfold.ts";

/** What the kernels that an engine registered can do beyond TensorFlow.js's own. */
export interface Native {
  /** gradients of convolutions under dilations */
  dilations: boolean;
  /** kernels `[...k, I/G, O]` with fewer input channels than the input has */
  groups: boolean;
  /** add a bias in the same pass, by TensorFlow.js's fused kernels and under whatever the plain ones can do */
  bias?: boolean;
}

/** By the name of the engine's backend. */
export const NATIVE: Map<string, Native> = new Map();
const none: Native = { dilations: false, groups: false };
const native = () => NATIVE.get(tf.getBackend()) ?? none;

/**
 * The three linear maps of a convolution: y from x and W, and the gradients of both from that of y; and y with a bias
 * where that is one kernel.
 */
interface Maps {
  y(x: tf.Tensor, W: tf.Tensor): tf.Tensor;
  biased?(x: tf.Tensor, W: tf.Tensor, bias: tf.Tensor): tf.Tensor;
  dx(dy: tf.Tensor, W: tf.Tensor, x: Shape): tf.Tensor;
  dW(x: tf.Tensor, dy: tf.Tensor, W: Shape): tf.Tensor;
}

/** Y = X·W over the last axis; dX = dY·Wᵀ, dW = Xᵀ·dY. A pointwise kernel is one too. */
const dense: Maps = {
  y: (x, W) => {
    const matrix = kernelMatrix(W), O = outputs(W.shape);
    const y = tf.matMul(tf.reshape(x, [-1, inputs(W.shape)]), matrix);
    return tf.reshape(y, [...x.shape.slice(0, -1), O]);
  },
  biased: (x, W, bias) => {
    const a = tf.reshape(x, [1, -1, inputs(W.shape)]), O = outputs(W.shape);
    const b = tf.reshape(W, [1, -1, O]), plain = { transposeA: false, transposeB: false };
    const y = run("_FusedMatMul", { a, b, bias }, { ...plain, activation: "linear" });
    return tf.reshape(y, [...x.shape.slice(0, -1), O]);
  },
  dx: (dy, W, x) => {
    const rows = tf.reshape(dy, [-1, outputs(W.shape)]);
    return tf.reshape(tf.matMul(rows, kernelMatrix(W), false, true), [...x]);
  },
  dW: (x, dy, W) => {
    const rows = tf.reshape(x, [-1, inputs(W)]);
    return tf.reshape(tf.matMul(rows, tf.reshape(dy, [-1, outputs(W)]), true), [...W]);
  },
};

/** The definition: Y = unfold(X)·K; dX = fold(dY·Kᵀ), dK = unfold(X)ᵀ·dY, a matrix for each group. */
function unfolded(kernel: Shape, geometry: Geometry): Maps {
  const { groups = 1 } = geometry;
  const rows = (dy: tf.Tensor) =>
    groups === 1 ? tf.reshape(dy, [-1, outputs(kernel)]) : apart(dy, groups);
  return {
    y: (x, W) => {
      const { output } = extent(kernel, x.shape.slice(1, -1), geometry);
      const y = tf.matMul(unfold(x, kernel, geometry), kernelMatrix(W, groups));
      const shape = [x.shape[0], ...output, outputs(kernel)];
      return groups === 1 ? tf.reshape(y, shape) : together(y, shape);
    },
    dx: (dy, W, x) =>
      fold(tf.matMul(rows(dy), kernelMatrix(W, groups), false, true), x, kernel, geometry),
    dW: (x, dy, W) => matrixKernel(tf.matMul(unfold(x, kernel, geometry), rows(dy), true), W),
  };
}

type Attributes = Record<string, unknown>;
const run = (name: string, inputs: Record<string, tf.Tensor>, attributes: Attributes) =>
  tf.engine().runKernel(name, inputs, attributes as tf.NamedAttrMap) as tf.Tensor;

/** TensorFlow.js's convolution kernels by their names. */
function kernels([y, dx, dW, biased]: string[], attributes: Attributes): Maps {
  const fused = { ...attributes, activation: "linear" };
  return {
    y: (x, filter) => run(y, { x, filter }, attributes),
    biased: biased && ((x, filter, bias) => run(biased, { x, filter, bias }, fused)) || undefined,
    dx: (dy, filter, x) => run(dx, { dy, filter }, { ...attributes, inputShape: x }),
    dW: (x, dy, W) => run(dW, { x, dy }, { ...attributes, filterShape: W }),
  };
}
const CONV2D = ["Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter", "FusedConv2D"];
const CONV3D = ["Conv3D", "Conv3DBackpropInputV2", "Conv3DBackpropFilterV2"];
const DEPTHWISE = [
  "DepthwiseConv2dNative",
  "DepthwiseConv2dNativeBackpropInput",
  "DepthwiseConv2dNativeBackpropFilter",
];

/** The way of computing that the engine at hand does best. */
function plan(x: Shape, kernel: Shape, geometry: Geometry): Maps {
  const k = space(kernel);
  if (k.length === 0) return dense;
  const at = extent(kernel, x.slice(1, -1), geometry);
  const moves = at.padding.flat().some((zeros) => zeros !== 0) || at.strides.some((s) => s !== 1);
  if (size(k) === 1 && !moves && at.groups === 1) return dense;

  const can = native();
  const dilated = at.dilations.some((step) => step > 1);
  if (dilated && !can.dilations) return unfolded(kernel, geometry);
  if (k.length === 3) {
    return at.groups > 1 && !can.groups ? unfolded(kernel, geometry) : conv3d(x, at);
  }
  const attributes = {
    strides: at.strides,
    pad: [[0, 0], ...at.padding, [0, 0]],
    dilations: at.dilations,
    dataFormat: "NHWC",
    dimRoundingMode: null,
  };
  if (at.groups === 1 || can.groups) return kernels(CONV2D, { ...attributes, groups: at.groups });
  if (inputs(kernel) > 1) return unfolded(kernel, geometry);
  // depthwise [kh, kw, 1, I·M] is TensorFlow.js's [kh, kw, I, M]: the same numbers in the same order
  const shape = [...k, at.groups, outputs(kernel) / at.groups];
  const maps = kernels(DEPTHWISE, attributes);
  return {
    y: (x, W) => maps.y(x, tf.reshape(W, shape)),
    dx: (dy, W, x) => maps.dx(dy, tf.reshape(W, shape), x),
    dW: (x, dy, W) => tf.reshape(maps.dW(x, dy, shape), [...W]),
  };
}

/** conv3d, whose kernels know no explicit zeros: they are added before and cut off the gradient. */
function conv3d(x: Shape, at: Extent): Maps {
  const zeros = [[0, 0], ...at.padding, [0, 0]] as [number, number][];
  const shape = x.map((length, axis) => length + zeros[axis][0] + zeros[axis][1]);
  const start = zeros.map(([before]) => before);
  const attributes = {
    strides: at.strides,
    pad: "valid",
    dilations: at.dilations,
    dataFormat: "NDHWC",
    groups: at.groups,
  };
  return {
    y: (x, W) => kernels(CONV3D, attributes).y(tf.pad(x, zeros), W),
    dx: (dy, W, x) => tf.slice(kernels(CONV3D, attributes).dx(dy, W, shape), start, [...x]),
    dW: (x, dy, W) => kernels(CONV3D, attributes).dW(tf.pad(x, zeros), dy, W),
  };
}

/** A row of one for the height that a conv1d lacks. */
const row = (shape: Shape): number[] => [shape[0], 1, ...shape.slice(1)];

/** conv1d as a conv2d over one row. */
function lifted({ strides, padding, dilations, groups }: Extent): Geometry {
  return {
    strides: [1, ...strides],
    padding: [[0, 0], ...padding],
    dilations: [1, ...dilations],
    groups,
  };
}

function mapsOf(x: Shape, kernel: Shape, geometry: Geometry): Maps {
  const { groups = 1 } = geometry, channels = x[x.length - 1];
  if (channels !== inputs(kernel) * groups) {
    throw new TypeError(
      `Cannot convolve an input of ${channels} channels as the kernel must read them all: ` +
        `current kernel reads ${inputs(kernel)} in ${groups} group${groups > 1 ? "s" : ""}`,
    );
  }
  if (space(kernel).length !== 1) return plan(x, kernel, geometry);
  const at = extent(kernel, x.slice(1, -1), geometry), W = [1, ...kernel];
  const maps = plan(row(x), W, lifted(at)), { biased } = maps;
  const y = [x[0], ...at.output, outputs(kernel)];
  return {
    y: (x, kernel) => tf.reshape(maps.y(tf.reshape(x, row(x.shape)), tf.reshape(kernel, W)), y),
    biased: biased &&
      ((x, kernel, bias) =>
        tf.reshape(biased(tf.reshape(x, row(x.shape)), tf.reshape(kernel, W), bias), y)),
    dx: (dy, kernel, x) =>
      tf.reshape(maps.dx(tf.reshape(dy, row(y)), tf.reshape(kernel, W), row(x)), [...x]),
    dW: (x, dy, kernel) =>
      tf.reshape(maps.dW(tf.reshape(x, row(x.shape)), tf.reshape(dy, row(y)), W), [...kernel]),
  };
}

/**
 * y[n, p, o] = b[o] + Σ over taps t and inputs i of x[n, p·stride + t·dilation − before, i] · W[t, i, o].
 *
 * @param x `[N, ...space, I]`; for a dense kernel `[..., I]`
 * @param kernel `[...k, I/G, O]`; `[I, O]` is a matrix product over the last axis
 * @param bias `[O]`; left out, zero
 * @returns `[N, ...out, O]`
 * @throws {TypeError} when the channels of x and the kernel do not agree
 * @throws {RangeError} when the kernel is larger than the padded input
 */
export function convolve(
  x: tf.Tensor,
  kernel: tf.Tensor,
  geometry: Geometry = {},
  bias?: tf.Tensor,
): tf.Tensor {
  const maps = mapsOf(x.shape, kernel.shape, geometry);
  const gradients = {
    x: (dy: tf.Tensor, { x, kernel }: { x: tf.Tensor; kernel: tf.Tensor }) =>
      maps.dx(dy, kernel, x.shape),
    kernel: (dy: tf.Tensor, { x, kernel }: { x: tf.Tensor; kernel: tf.Tensor }) =>
      maps.dW(x, dy, kernel.shape),
  };
  const { biased } = maps;
  if (!bias || !biased || !native().bias) {
    const y = operation({ x, kernel }, ({ x, kernel }) => maps.y(x, kernel), gradients);
    return bias ? tf.add(y, bias) : y;
  }
  return operation(
    { x, kernel, bias },
    ({ x, kernel, bias }) => biased(x, kernel, bias),
    { ...gradients, bias: (dy) => tf.sum(tf.reshape(dy, [-1, dy.shape[dy.rank - 1]]), 0) },
  );
}

/** ∂/∂x of ⟨dy, convolve(x, W)⟩: the transpose of the convolution, applied to dy. */
export function inputGradient(
  dy: tf.Tensor,
  kernel: tf.Tensor,
  x: Shape,
  geometry: Geometry = {},
): tf.Tensor {
  return tf.tidy(() => mapsOf(x, kernel.shape, geometry).dx(dy, kernel, x));
}

/** ∂/∂W of ⟨dy, convolve(x, W)⟩: every tap's input times every output's gradient, summed over positions. */
export function kernelGradient(
  x: tf.Tensor,
  dy: tf.Tensor,
  kernel: Shape,
  geometry: Geometry = {},
): tf.Tensor {
  return tf.tidy(() => mapsOf(x.shape, kernel, geometry).dW(x, dy, kernel));
}
