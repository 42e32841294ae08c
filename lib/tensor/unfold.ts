/**
 * A convolution as a matrix product: im2col, its transpose col2im, and the only reshapes of kernels.
 *
 * `convolve(x, W) = unfold(x) · kernelMatrix(W)`. Every step here is a slice, a pad or a reshape, so all
 * of it has a gradient on every engine and in any number of dimensions; it is also the definition that
 * the fast convolutions are tested against.
 */
import * as tf from "@tensorflow/tfjs";
import { apart, together } from "./apart.ts";
import { type Extent, extent, type Geometry } from "./geometry.ts";
import { inputs, outputs, type Shape, size, space } from "./shape.ts";

/**
 * The kernel as a matrix: `[...k, I/G, O]` → `[k·I/G, O]`, or `[G, k·I/G, O/G]` for more than one group.
 */
export function kernelMatrix(kernel: tf.Tensor, groups = 1): tf.Tensor {
  if (groups === 1) return tf.reshape(kernel, [-1, outputs(kernel.shape)]);
  return apart(kernel, groups);
}

/** The inverse of {@link kernelMatrix}: `[k·I/G, O]` or `[G, k·I/G, O/G]` → `[...k, I/G, O]`. */
export function matrixKernel(matrix: tf.Tensor, shape: Shape): tf.Tensor {
  return matrix.rank === 3 ? together(matrix, shape) : tf.reshape(matrix, [...shape]);
}

/** `count` positions of one axis, from `start` and `step` apart (tfjs's strided slice has no gradient). */
function pick(x: tf.Tensor, axis: number, start: number, count: number, step: number): tf.Tensor {
  const before = size(x.shape.slice(0, axis)), after = size(x.shape.slice(axis + 1));
  const line = tf.reshape(x, [before, x.shape[axis], after]);
  const run = tf.slice(line, [0, start, 0], [before, count * step, after]);
  const steps = tf.reshape(run, [before, count, step, after]);
  const firsts = step === 1 ? steps : tf.slice(steps, [0, 0, 0, 0], [before, count, 1, after]);
  return tf.reshape(firsts, [...x.shape.slice(0, axis), count, ...x.shape.slice(axis + 1)]);
}

/** The transpose of `pick`: the positions back on an axis of `length`, zeros elsewhere. */
function put(y: tf.Tensor, axis: number, start: number, length: number, step: number): tf.Tensor {
  const before = size(y.shape.slice(0, axis)), after = size(y.shape.slice(axis + 1));
  const count = y.shape[axis], firsts = tf.reshape(y, [before, count, 1, after]);
  const steps = step === 1 ? firsts : tf.pad(firsts, [[0, 0], [0, 0], [0, step - 1], [0, 0]]);
  const run = tf.reshape(steps, [before, count * step, after]);
  const line = tf.pad(run, [[0, 0], [start, length - start - count * step], [0, 0]]);
  return tf.reshape(line, [...y.shape.slice(0, axis), length, ...y.shape.slice(axis + 1)]);
}

/**
 * The zeros around an input of which every tap of the kernel finds `out · stride` positions from its start,
 * whatever remainder the strides leave.
 */
function margins(x: Shape, kernel: Shape, at: Extent): [before: number, after: number][] {
  return space(kernel).map((length, axis) => {
    const [before] = at.padding[axis];
    const needed = (length - 1) * at.dilations[axis] + at.output[axis] * at.strides[axis];
    return [before, Math.max(0, needed - before - x[axis + 1])];
  });
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
    const at = extent(kernel, x.shape.slice(1, -1), geometry);
    const { strides, dilations, groups, output } = at;
    const channels = x.shape[x.rank - 1], positions = x.shape[0] * size(output);
    let taps = [tf.pad(x, [[0, 0], ...margins(x.shape, kernel, at), [0, 0]])];
    space(kernel).forEach((length, axis) => {
      taps = taps.flatMap((part) =>
        Array.from(
          { length },
          (_, tap) => pick(part, axis + 1, tap * dilations[axis], output[axis], strides[axis]),
        )
      );
    });
    const columns = tf.concat(taps.map((tap) => tf.reshape(tap, [positions, 1, channels])), 1);
    const width = taps.length * inputs(kernel); // columns: [N·out, k, I]
    if (groups === 1) return tf.reshape(columns, [positions, width]);
    const split = tf.reshape(columns, [positions, taps.length, groups, inputs(kernel)]);
    return tf.reshape(tf.transpose(split, [2, 0, 1, 3]), [groups, positions, width]);
  });
}

/**
 * col2im: the transpose of {@link unfold}, ⟨unfold(x), m⟩ = ⟨x, fold(m)⟩: each column is added back to
 * where it came from.
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
  return tf.tidy(() => {
    const at = extent(kernel, x.slice(1, -1), geometry), k = space(kernel);
    const { strides, dilations, groups, output } = at;
    const channels = x[x.length - 1], zeros = margins(x, kernel, at);
    const split = tf.reshape(matrix, [groups, -1, size(k), inputs(kernel)]);
    const columns = tf.reshape(tf.transpose(split, [1, 2, 0, 3]), [-1, size(k), channels]);
    let taps = tf.unstack(columns, 1).map((tap) => tf.reshape(tap, [x[0], ...output, channels]));
    for (let axis = k.length - 1; axis >= 0; axis--) {
      const [before, after] = zeros[axis], length = before + x[axis + 1] + after;
      const placed = taps.map((part, i) =>
        put(part, axis + 1, (i % k[axis]) * dilations[axis], length, strides[axis])
      );
      taps = Array.from(
        { length: taps.length / k[axis] },
        (_, i) => tf.addN(placed.slice(i * k[axis], (i + 1) * k[axis])),
      );
    }
    return tf.slice(taps[0], [0, ...zeros.map(([before]) => before), 0], [...x]);
  });
}
