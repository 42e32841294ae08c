/**
 * One convolution for every base layer: dense, conv1d, conv2d, conv3d, depthwise, with stride, any
 * padding, dilation and groups, and with all its gradients.
 *
 * TensorFlow.js has the forward of most of these, no gradient under dilation, and no groups. What it has
 * is used; an engine whose kernels can do more says so in {@link NATIVE}; the rest is `unfold` and a
 * matrix product.
 */
import * as tf from "@tensorflow/tfjs";
import { type Extent, extent, type Geometry } from "./geometry.ts";
import { inputs, outputs, size, space } from "./shape.ts";
import { kernelMatrix, unfold } from "./unfold.ts";

/**
 * What the convolution kernels that an engine registered can do beyond TensorFlow.js's own: gradients
 * under `dilations`, and kernels `[...k, I/G, O]` with fewer input channels than the input has.
 */
export const NATIVE: Map<string, { dilations: boolean; groups: boolean }> = new Map();

type Kernel = (
  name: string,
  inputs: Record<string, tf.Tensor>,
  attributes: Record<string, unknown>,
) => tf.Tensor;
const run: Kernel = (name, inputs, attributes) =>
  tf.engine().runKernel(name, inputs, attributes as tf.NamedAttrMap) as tf.Tensor;

/** The last axis times a matrix: x `[..., I]` · `[I, O]` → `[..., O]`. */
export function dense(x: tf.Tensor, matrix: tf.Tensor): tf.Tensor {
  const [rows, columns] = matrix.shape;
  const y = tf.matMul(tf.reshape(x, [-1, rows]) as tf.Tensor2D, matrix as tf.Tensor2D);
  return tf.reshape(y, [...x.shape.slice(0, -1), columns]);
}

/** The definition, `unfold(x) · kernelMatrix(W)`: any dimensions, any geometry, slow. */
export function unfolded(x: tf.Tensor, kernel: tf.Tensor, geometry: Geometry = {}): tf.Tensor {
  const { groups, output } = extent(kernel.shape, x.shape.slice(1, -1), geometry);
  const y = tf.matMul(unfold(x, kernel.shape, geometry), kernelMatrix(kernel, groups));
  const rows = groups === 1 ? y : tf.transpose(y, [1, 0, 2]); // [G, N·out, O/G] -> [N·out, G, O/G]
  return tf.reshape(rows, [x.shape[0], ...output, outputs(kernel.shape)]);
}

/** A convolution by kernels of the engine that know dilation and groups in all three directions. */
function native(x: tf.Tensor, kernel: tf.Tensor, at: Extent): tf.Tensor {
  const names = x.rank === 5
    ? ["Conv3D", "Conv3DBackpropInputV2", "Conv3DBackpropFilterV2"]
    : ["Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"];
  const attributes = {
    strides: at.strides,
    pad: [[0, 0], ...at.padding, [0, 0]],
    dilations: at.dilations,
    dataFormat: x.rank === 5 ? "NDHWC" : "NHWC",
    groups: at.groups,
  };
  const gradients = tf.customGrad((...args) => {
    const [x, filter, save] = args as [tf.Tensor, tf.Tensor, tf.GradSaveFunc];
    save([x, filter]);
    return {
      value: run(names[0], { x, filter }, attributes),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [x, filter] = saved;
        return [
          run(names[1], { dy, filter }, { ...attributes, inputShape: x.shape }),
          run(names[2], { x, dy }, { ...attributes, filterShape: filter.shape }),
        ];
      },
    };
  });
  return gradients(x, kernel);
}

/** Depthwise `[kh, kw, 1, I·M]` as TensorFlow.js has it, `[kh, kw, I, M]`: the same numbers in order. */
function depthwise(x: tf.Tensor4D, kernel: tf.Tensor, at: Extent): tf.Tensor {
  const filter = tf.reshape(kernel, [
    ...space(kernel.shape),
    at.groups,
    outputs(kernel.shape) / at.groups,
  ]);
  const pad: tf.backend_util.ExplicitPadding = [[0, 0], pair(at, 0), pair(at, 1), [0, 0]];
  return tf.depthwiseConv2d(x, filter as tf.Tensor4D, at.strides as [number, number], pad);
}
const pair = (at: Extent, axis: number): [number, number] => [...at.padding[axis]];

/**
 * y[n, p, o] = Σ over taps t and inputs i of x[n, p·stride + t·dilation − before, i] · W[t, i, o].
 *
 * @param x `[N, ...space, I]`; for a dense kernel `[..., I]`
 * @param kernel `[...k, I/G, O]`; `[I, O]` is a matrix product over the last axis
 * @returns `[N, ...out, O]`
 * @throws {TypeError} when the channels of x and the kernel do not agree
 * @throws {RangeError} when the kernel is larger than the padded input
 */
export function convolve(x: tf.Tensor, kernel: tf.Tensor, geometry: Geometry = {}): tf.Tensor {
  return tf.tidy(() => {
    const k = space(kernel.shape), groups = geometry.groups ?? 1, channels = x.shape[x.rank - 1];
    if (channels !== inputs(kernel.shape) * groups) {
      throw new TypeError(
        `Cannot convolve an input of ${channels} channels as the kernel must read them all: ` +
          `current kernel reads ${inputs(kernel.shape)} in ${groups} group${groups > 1 ? "s" : ""}`,
      );
    }
    if (k.length === 0) return dense(x, kernel);
    if (k.length === 1) return lifted(x, kernel, geometry);
    const at = extent(kernel.shape, x.shape.slice(1, -1), geometry);
    const pads = at.padding.flat().some((zeros) => zeros !== 0);
    const pointwise = size(k) === 1 && size(at.strides) === 1 && !pads && groups === 1;
    if (pointwise) return dense(x, kernelMatrix(kernel));

    const dilated = at.dilations.some((step) => step > 1);
    const can = NATIVE.get(tf.getBackend()) ?? { dilations: false, groups: false };
    const asks = dilated || groups > 1;
    if (asks && (!dilated || can.dilations) && (groups === 1 || can.groups)) {
      return native(x, kernel, at);
    }
    if (dilated || k.length > 3) return unfolded(x, kernel, geometry);
    if (k.length === 2 && groups > 1 && inputs(kernel.shape) === 1) {
      return depthwise(x as tf.Tensor4D, kernel, at);
    }
    if (groups > 1) return unfolded(x, kernel, geometry);
    if (k.length === 2) {
      const pad: tf.backend_util.ExplicitPadding = [[0, 0], pair(at, 0), pair(at, 1), [0, 0]];
      const strides = at.strides as [number, number];
      return tf.conv2d(x as tf.Tensor4D, kernel as tf.Tensor4D, strides, pad);
    }
    const padded = tf.pad(x, [[0, 0], ...k.map((_, axis) => pair(at, axis)), [0, 0]]);
    const strides = at.strides as [number, number, number];
    return tf.conv3d(padded as tf.Tensor5D, kernel as tf.Tensor5D, strides, "valid");
  });
}

/** conv1d as a conv2d over one row. */
function lifted(x: tf.Tensor, kernel: tf.Tensor, geometry: Geometry): tf.Tensor {
  const at = extent(kernel.shape, x.shape.slice(1, -1), geometry);
  const [batch, width, channels] = x.shape;
  const y = convolve(
    tf.reshape(x, [batch, 1, width, channels]),
    tf.reshape(kernel, [1, ...kernel.shape]),
    {
      strides: [1, ...at.strides],
      padding: [[0, 0], ...at.padding],
      dilations: [1, ...at.dilations],
      groups: at.groups,
    },
  );
  return tf.squeeze(y, [1]);
}
