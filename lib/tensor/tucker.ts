/** The Tucker form of a kernel: a small kernel between two matrices that mix its channels. */
import * as tf from "@tensorflow/tfjs";
import {
  type Matrix,
  matrix,
  multiply,
  type NdArray,
  norm,
  transpose,
  transposeInto,
} from "./matrix.ts";
import { inputs, outputs, size, space } from "./shape.ts";
import { svd } from "./svd.ts";

/**
 * `out[…, i, o] = Σ_ab core[…, a, b] · down[i, a] · up[b, o]`, differentiable: two matrix products, the
 * one first that makes them cheaper.
 *
 * @param core `[...k, r1, r2]`
 * @param down `[I, r1]`
 * @param up `[r2, O]`
 * @returns `[...k, I, O]`
 */
export function tucker(core: tf.Tensor, down: tf.Tensor, up: tf.Tensor): tf.Tensor {
  const k = space(core.shape), K = size(k), [r1, r2] = core.shape.slice(-2);
  const [I] = down.shape, [, O] = up.shape;
  return tf.tidy(() => {
    // tf.matMul spreads a matrix over a batch, but its gradient does not gather it: that of broadcastTo does
    const downs = tf.broadcastTo(tf.reshape(down, [1, I, r1]), [K, I, r1]);
    const cores = tf.reshape(core, [K, r1, r2]);
    const mixed = (x: tf.Tensor, rows: number) => tf.matMul(tf.reshape(x, [K * rows, r2]), up);
    const out = I * r1 * r2 + I * r2 * O < r1 * r2 * O + I * r1 * O
      ? mixed(tf.matMul(downs, cores), I) // [K, I, r2] -> [K·I, O]
      : tf.matMul(downs, tf.reshape(mixed(cores, r1), [K, r1, O])); // [K, r1, O] -> [K, I, O]
    return tf.reshape(out, [...k, I, O]);
  });
}

/** What {@link tuckerOf} finds. */
export interface TuckerForm {
  /** `[...k, r1, r2]` */
  core: NdArray<Float64Array>;
  /** `[I, r1]`, orthonormal columns */
  down: Matrix;
  /** `[r2, O]`, orthonormal rows */
  up: Matrix;
  /** `‖W − tucker(core, down, up)‖ / ‖W‖` */
  error: number;
}

/**
 * The Tucker form of a kernel at a rank: its higher-order SVD cut at both axes of channels.
 *
 * `down` and `up` are the largest singular vectors of W unfolded along I and along O (De Lathauwer, De
 * Moor & Vandewalle 2000a), the core is W seen in these bases; the squared error is at most the sum of the
 * two that the unfoldings lose, so at most twice the best. Each sweep of alternating least squares (HOOI,
 * 2000b) takes one basis anew for the other's projection, and lowers the error or leaves it.
 *
 * @param kernel `[...k, I, O]`
 * @param rank r1 and r2; an axis with fewer singular vectors keeps them all
 * @throws {RangeError} when `rank` is not a positive integer, or a number of W is not finite
 */
export function tuckerOf(
  kernel: NdArray,
  rank: number,
  { sweeps = 0 }: { sweeps?: number } = {},
): TuckerForm {
  const k = space(kernel.shape), K = size(k), I = inputs(kernel.shape), O = outputs(kernel.shape);
  const basis = (unfolded: Matrix) => svd(unfolded, { rank }).v;
  const alongO = matrix(K * I, O, kernel.data); // W[k, i, o]
  const alongI = swapped(alongO, K); // W[k, o, i]

  let down = basis(alongI), up = basis(alongO); // [I, r1], [O, r2]
  for (let sweep = 0; sweep < sweeps; sweep++) {
    down = basis(swapped(multiply(alongO, up), K)); // [K·I, r2] -> [K·r2, I]
    up = basis(swapped(multiply(alongI, down), K)); // [K·O, r1] -> [K·r1, O]
  }
  const half = multiply(alongI, down); // [K·O, r1]
  const core = multiply(swapped(half, K), up); // [K·r1, r2]

  const rest = multiply(swapped(multiply(core, transpose(up)), K), transpose(down)); // [K·O, I]
  for (let i = 0; i < rest.data.length; i++) rest.data[i] -= alongI.data[i];
  const all = norm(alongI);
  return {
    core: { shape: [...k, down.columns, up.columns], data: core.data },
    down,
    up: transpose(up),
    error: all === 0 ? 0 : norm(rest) / all,
  };
}

/** `[K·m, n]` → `[K·n, m]`: each of K matrices transposed. */
function swapped({ rows, columns, data }: Matrix, K: number): Matrix {
  const m = rows / K, length = m * columns, result = matrix(K * columns, m);
  for (let start = 0; start < data.length; start += length) {
    const one = { data, start, stride: columns, rows: m, columns };
    transposeInto(result.data.subarray(start, start + length), one);
  }
  return result;
}
