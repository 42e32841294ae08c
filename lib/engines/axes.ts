/**
 * A convolution as its kernels see it: one record for each axis of space, two axes or three.
 *
 * y[p] = Σ over taps t of x[p·stride + t·dilation − before] · W[t] along each axis.
 */
import { extent, type Geometry } from "../tensor/geometry.ts";
import { type Shape, space } from "../tensor/shape.ts";

/** One axis of space. */
export interface Axis {
  /** length of the input */
  input: number;
  /** length of the output */
  output: number;
  /** length of the kernel */
  taps: number;
  /** steps between two outputs */
  stride: number;
  /** steps between two taps */
  dilation: number;
  /** zeros before the input */
  before: number;
}

/**
 * The axes of a call of one of TensorFlow.js's convolution kernels or of their gradients.
 *
 * @param x `[N, ...space, I]`
 * @param filter `[...k, I/G, O]`
 * @param attributes TensorFlow.js's: `strides, pad, dilations`, each a number or one an axis; `pad` may be
 * a list of pairs for all axes, batch and channels too
 * @param dy `[N, ...out, O]` where it is known: it decides how many outputs there are
 * @throws {TypeError} for channels first
 * @throws {RangeError} when the kernel is larger than the padded input
 */
export function axes(
  x: Shape,
  filter: Shape,
  attributes: Record<string, unknown>,
  dy?: Shape,
): Axis[] {
  const { dataFormat = "NHWC" } = attributes;
  if (dataFormat !== "NHWC" && dataFormat !== "NDHWC") {
    throw new TypeError(
      `Cannot convolve tensors as channels must be their last axis: current dataFormat is ${dataFormat}`,
    );
  }
  const pad = attributes.pad as Geometry["padding"];
  const at = extent(filter, x.slice(1, -1), {
    strides: attributes.strides as Geometry["strides"],
    dilations: (attributes.dilations ?? 1) as Geometry["dilations"],
    padding: Array.isArray(pad) ? pad.slice(1, -1) : pad,
  });
  return space(filter).map((taps, axis) => ({
    input: x[axis + 1],
    output: dy ? dy[axis + 1] : at.output[axis],
    taps,
    stride: at.strides[axis],
    dilation: at.dilations[axis],
    before: at.padding[axis][0],
  }));
}
