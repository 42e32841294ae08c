/**
 * A convolution as a matrix product: im2col, its transpose col2im, and the only reshapes of kernels.
 *
 * `convolve(x, W) = unfold(x) · kernelMatrix(W)`. Every step here is a slice, a pad or a reshape, so all
 * of it has a gradient on every engine and in any number of dimensions; it is also the definition that
 * the fast convolutions are tested against.
 */
import * as tf from "@tensorflow/tfjs";
import { extent, type Geometry } from "./geometry.ts";
import { inputs, outputs, type Shape, size, space } from "./shape.ts";

/**
 * The kernel as a matrix: `[...k, I/G, O]` → `[k·I/G, O]`, or `[G, k·I/G, O/G]` for more than one group.
 */
export function kernelMatrix(kernel: tf.Tensor, groups = 1): tf.Tensor {
  const rows = size(kernel.shape) / outputs(kernel.shape);
  if (groups === 1) return tf.reshape(kernel, [rows, outputs(kernel.shape)]);
  const split = tf.reshape(kernel, [rows, groups, outputs(kernel.shape) / groups]);
  return tf.transpose(split, [1, 0, 2]); // [k·I/G, G, O/G] -> [G, k·I/G, O/G]
}

/** The inverse of {@link kernelMatrix}: `[k·I/G, O]` or `[G, k·I/G, O/G]` → `[...k, I/G, O]`. */
export function matrixKernel(matrix: tf.Tensor, shape: Shape): tf.Tensor {
  const rows = matrix.rank === 3 ? tf.transpose(matrix, [1, 0, 2]) : matrix;
  return tf.reshape(rows, [...shape]);
}

/** `count` positions of one axis, from `start` and `step` apart, as slices (tfjs's strided slice has no gradient). */
function pick(x: tf.Tensor, axis: number, start: number, count: number, step: number): tf.Tensor {
  const before = size(x.shape.slice(0, axis)), after = size(x.shape.slice(axis + 1));
  const line = tf.reshape(x, [before, x.shape[axis], after]);
  const run = tf.slice(line, [0, start, 0], [before, count * step, after]);
  const steps = tf.reshape(run, [before, count, step, after]);
  const firsts = step === 1 ? steps : tf.slice(steps, [0, 0, 0, 0], [before, count, 1, after]);
  return tf.reshape(firsts, [...x.shape.slice(0, axis), count, ...x.shape.slice(axis + 1)]);
}

/**
 * im2col: one row per output position, holding the input under the kernel in the order of its elements.
 *
 * @param x `[N, ...space, I]`
 * @param kernel shape `[...k, I/G, O]`
 * @returns `[N·out, k·I/G]`, or `[G, N·out, k·I/G]` for more than one group
 */
export function unfold(x: tf.Tensor, kernel: Shape, geometry: Geometry = {}): tf.Tensor {
  return tf.tidy(() => {
    const k = space(kernel), channels = x.shape[x.rank - 1], [batch] = x.shape;
    const { strides, padding, dilations, groups, output } = extent(
      kernel,
      x.shape.slice(1, -1),
      geometry,
    );
    // every tap then finds `output · stride` positions from its start, whatever the remainder was
    const needed = k.map((length, axis) =>
      (length - 1) * dilations[axis] + output[axis] * strides[axis]
    );
    const zeros = padding.map(([before], axis): [number, number] => [
      before,
      Math.max(0, needed[axis] - before - x.shape[axis + 1]),
    ]);
    const padded = tf.pad(x, [[0, 0], ...zeros, [0, 0]]);
    let taps = [padded];
    k.forEach((length, axis) => {
      taps = taps.flatMap((part) =>
        Array.from(
          { length },
          (_, tap) => pick(part, axis + 1, tap * dilations[axis], output[axis], strides[axis]),
        )
      );
    });
    const positions = batch * size(output);
    const wide = taps.map((tap) => tf.reshape(tap, [positions, 1, channels]));
    const columns = tf.concat(wide, 1); // [N·out, k, I]
    if (groups === 1) return tf.reshape(columns, [positions, taps.length * channels]);
    const split = tf.reshape(columns, [positions, taps.length, groups, inputs(kernel)]);
    const grouped = tf.transpose(split, [2, 0, 1, 3]); // [N·out, k, G, I/G] -> [G, N·out, k, I/G]
    return tf.reshape(grouped, [groups, positions, taps.length * inputs(kernel)]);
  });
}

/**
 * col2im: the transpose of {@link unfold}, ⟨unfold(x), m⟩ = ⟨x, fold(m)⟩: each column is added back to
 * where it came from. It is computed as what it is, the gradient of `unfold`.
 *
 * @param matrix what `unfold` returns
 * @param x shape of the input, `[N, ...space, I]`
 */
export function fold(
  matrix: tf.Tensor,
  x: Shape,
  kernel: Shape,
  geometry: Geometry = {},
): tf.Tensor {
  return tf.tidy(() =>
    tf.grad((x: tf.Tensor) => unfold(x, kernel, geometry))(tf.zeros([...x]), matrix)
  );
}
