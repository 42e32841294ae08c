/** Matrix products, convolutions and pools, with the gradients that TensorFlow has for them. */
import * as tf from "@tensorflow/tfjs";
import { axes, type Axis } from "../axes.ts";
import type { Attribute } from "./api.ts";
import type { Call, Kernel, Run } from "./kernel.ts";

/** Where a convolution's windows lie, as TensorFlow takes it, and zeros that must be there before. */
interface Windows {
  attributes: Record<string, Attribute>;
  /** for each axis of x; undefined where the operation itself adds them */
  zeros?: number[][];
}

/** Those of a call; undefined where TensorFlow has no kernel for them. */
function windows(
  { attrs }: Call,
  x: readonly number[],
  filter: readonly number[],
  dy?: readonly number[],
): Windows | undefined {
  const plane = filter.length === 4, data_format = plane ? "NHWC" : "NDHWC";
  if ((attrs.dataFormat ?? data_format) !== data_format) return;
  const at = axes(x, filter, { ...attrs, dataFormat: data_format }, dy);
  const ends = at.map(zerosOf), none = ends.flat().every((zeros) => zeros === 0);
  const attributes = {
    strides: [1, ...at.map(({ stride }) => stride), 1],
    dilations: [1, ...at.map(({ dilation }) => dilation), 1],
    data_format,
  };
  if (none) return { attributes: { ...attributes, padding: "VALID" } };
  const all = [[0, 0], ...ends, [0, 0]];
  return plane
    ? { attributes: { ...attributes, padding: "EXPLICIT", explicit_paddings: all.flat() } }
    : { attributes: { ...attributes, padding: "VALID" }, zeros: all };
}

/** Zeros before an axis, and after it those that the last output still reads. */
function zerosOf({ input, output, taps, stride, dilation, before }: Axis): [number, number] {
  const read = (output - 1) * stride + (taps - 1) * dilation + 1;
  return [before, Math.max(0, read - before - input)];
}

/** y, ∂L/∂x and ∂L/∂W of one kind of convolution. */
function convolution(name: string, suffix = ""): Record<string, Kernel> {
  const input = `${name}BackpropInput${suffix}`, filter = `${name}BackpropFilter${suffix}`;
  const padded = (x: tf.TensorInfo, run: Run, zeros?: number[][]) =>
    zeros ? run("Pad", [x, zeros]) : x;
  return {
    [name]: (call, run) => {
      const { x, filter } = call.inputs, at = windows(call, x.shape, filter.shape);
      return at && run(name, [padded(x, run, at.zeros), filter], at.attributes);
    },
    [input]: (call, run) => {
      const { dy, filter } = call.inputs, shape = call.attrs.inputShape as number[];
      const at = windows(call, shape, filter.shape, dy.shape);
      if (!at?.zeros) return at && run(input, [shape, filter, dy], at.attributes);
      const whole = shape.map((length, axis) => length + at.zeros![axis][0] + at.zeros![axis][1]);
      const dx = run(input, [whole, filter, dy], at.attributes);
      return run("Slice", [dx, at.zeros.map(([before]) => before), shape]);
    },
    [filter]: (call, run) => {
      const { x, dy } = call.inputs, shape = call.attrs.filterShape as number[];
      const at = windows(call, x.shape, shape, dy.shape);
      return at && run(filter, [padded(x, run, at.zeros), shape, dy], at.attributes);
    },
  };
}

/** For a depthwise convolution TensorFlow wants one stride for both axes. */
const even = (kernels: Record<string, Kernel>): Record<string, Kernel> =>
  Object.fromEntries(
    Object.entries(kernels).map(([name, kernel]) => [name, (call, run) => {
      const [rows, columns] = [call.attrs.strides].flat();
      return columns === undefined || rows === columns ? kernel(call, run) : undefined;
    }]),
  );

const CONVOLUTIONS: Record<string, Kernel> = {
  ...convolution("Conv2D"),
  ...convolution("Conv3D", "V2"),
  ...even(convolution("DepthwiseConv2dNative")),
};

const product: Kernel = ({ inputs: { a, b }, attrs }, run) =>
  run("BatchMatMulV2", [a, b], {
    adj_x: attrs.transposeA === true,
    adj_y: attrs.transposeB === true,
  });

/** A kernel, a bias on its last axis, an activation. */
const fused = (kernel: Kernel): Kernel => (call, run) => {
  const { inputs: { bias, preluActivationWeights }, attrs } = call;
  const y = kernel(call, run) as tf.TensorInfo | undefined;
  if (!y) return;
  return activated(bias ? run("AddV2", [y, bias]) : y, attrs, preluActivationWeights, run);
};

function activated(x: tf.TensorInfo, attrs: Call["attrs"], alpha: tf.TensorInfo, run: Run) {
  switch (attrs.activation) {
    case "relu":
      return run("Relu", [x]);
    case "relu6":
      return run("Relu6", [x]);
    case "elu":
      return run("Elu", [x]);
    case "sigmoid":
      return run("Sigmoid", [x]);
    case "leakyrelu":
      return run("LeakyRelu", [x], { alpha: { float: attrs.leakyreluAlpha as number } });
    case "prelu": {
      const below = run("Minimum", [x, run("ZerosLike", [x])]);
      return run("AddV2", [run("Relu", [x]), run("Mul", [alpha, below])]);
    }
    default:
      return x;
  }
}

/** A pool's window; undefined where the padding is not one of TensorFlow's two. */
function pool({ attrs }: Call): Record<string, Attribute> | undefined {
  const { filterSize, strides, pad } = attrs as Record<string, number | number[]>;
  if (typeof pad !== "string") return;
  const pair = (lengths: number | number[]) =>
    typeof lengths === "number" ? [1, lengths, lengths, 1] : [1, ...lengths, 1];
  return { ksize: pair(filterSize), strides: pair(strides), padding: String(pad).toUpperCase() };
}

const resize = ({ attrs }: Call) => ({
  align_corners: attrs.alignCorners === true,
  half_pixel_centers: attrs.halfPixelCenters === true,
});

/** The kernels of this file. */
export const CONTRACT: Record<string, Kernel> = {
  ...CONVOLUTIONS,
  BatchMatMul: product,
  _FusedMatMul: fused(product),
  FusedConv2D: fused(CONVOLUTIONS.Conv2D),
  FusedDepthwiseConv2D: fused(CONVOLUTIONS.DepthwiseConv2dNative),
  FusedBatchNorm: ({ inputs: { x, mean, variance, offset, scale }, attrs }, run) => {
    const epsilon = tf.scalar(attrs.varianceEpsilon as number);
    let factor = run("Rsqrt", [run("AddV2", [variance, epsilon])]);
    epsilon.dispose();
    if (scale) factor = run("Mul", [factor, scale]);
    const y = run("Mul", [run("Sub", [x, mean]), factor]);
    return offset ? run("AddV2", [y, offset]) : y;
  },
  MaxPool: (call, run) => {
    const at = pool(call);
    return at && run("MaxPool", [call.inputs.x], at);
  },
  MaxPoolGrad: (call, run) => {
    const { dy, input, output } = call.inputs, at = pool(call);
    return at && run("MaxPoolGrad", [input, output, dy], at);
  },
  AvgPool: (call, run) => {
    const at = pool(call);
    return at && run("AvgPool", [call.inputs.x], at);
  },
  AvgPoolGrad: (call, run) => {
    const { dy, input } = call.inputs, at = pool(call);
    return at && run("AvgPoolGrad", [input.shape, dy], at);
  },
  ResizeBilinear: (call, run) =>
    run("ResizeBilinear", [call.inputs.images, call.attrs.size as number[]], resize(call)),
  ResizeNearestNeighbor: (call, run) =>
    run("ResizeNearestNeighbor", [call.inputs.images, call.attrs.size as number[]], resize(call)),
  ResizeBilinearGrad: (call, run) =>
    run("ResizeBilinearGrad", [call.inputs.dy, call.inputs.images], resize(call)),
  ResizeNearestNeighborGrad: (call, run) =>
    run(
      "ResizeNearestNeighborGrad",
      [call.inputs.dy, call.inputs.images.shape.slice(1, 3)],
      resize(call),
    ),
};
