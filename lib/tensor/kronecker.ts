/** The Kronecker product: how a dimension splits in two, the product itself, the nearest one to a kernel. */
import * as tf from "@tensorflow/tfjs";
import { type Matrix, matrix, type NdArray } from "./matrix.ts";
import { inputs, outputs, type Shape, show, size, space } from "./shape.ts";
import { lost, svd } from "./svd.ts";

/** Two factors of a dimension. */
export type Pair = [first: number, second: number];

/**
 * `dimension = first · second`, first <= second, as LyCORIS's `factorization` splits it.
 *
 * A positive factor that divides the dimension is one of the two. Otherwise first is the largest divisor
 * that is not above √dimension, nor above the factor if that is positive; so −1 gives the most even pair,
 * 8 splits 250 into 5 · 50 and 16 into 2 · 8, and a prime is 1 · p.
 *
 * @throws {RangeError} when the dimension is not a positive integer
 */
export function factorPair(dimension: number, factor = -1): Pair {
  checkDimension(dimension);
  if (factor > 0 && dimension % factor === 0) {
    const other = dimension / factor;
    return factor <= other ? [factor, other] : [other, factor];
  }
  const limit = Math.min(Math.sqrt(dimension), factor < 0 ? Infinity : factor);
  let first = 1;
  for (let next = 2; next <= limit; next++) if (dimension % next === 0) first = next;
  return [first, dimension / first];
}

/**
 * `dimension = block · 2ⁿ` with the largest even block that is not above the factor (of any size, if the
 * factor is negative), as LyCORIS's `power2factorization`: the blocks of a butterfly.
 *
 * @returns block and 2ⁿ
 * @throws {RangeError} when there is no such block
 */
export function powerOfTwoPair(dimension: number, factor = -1): Pair {
  checkDimension(dimension);
  const limit = factor < 0 ? dimension : factor;
  for (let count = 1; dimension % (2 * count) === 0; count *= 2) {
    if (dimension / count <= limit) return [dimension / count, count];
  }
  throw new RangeError(
    `Cannot split ${dimension} into even blocks as their count must be a power of two: ` +
      `current largest block is ${factor}`,
  );
}

function checkDimension(dimension: number): void {
  if (!(Number.isInteger(dimension) && dimension > 0)) {
    throw new RangeError(
      `Cannot split a dimension as it must be a positive integer: current dimension is ${dimension}`,
    );
  }
}

/**
 * `a ⊗ b`: `out[…, i·m + x, j·n + y] = a[i, j] · b[…, x, y]`, differentiable once.
 *
 * Rearranged so that its rows are a's elements and its columns b's, `a ⊗ b` is vec(a) · vec(b)ᵀ: with R the gradient of
 * it so rearranged, that of a is R · vec(b), and that of b vec(a)ᵀ · R.
 *
 * @param a `[p, q]`
 * @param b `[...k, m, n]`
 * @returns `[...k, p·m, q·n]`
 */
export function kronecker(a: tf.Tensor, b: tf.Tensor): tf.Tensor {
  const [p, q] = a.shape, m = inputs(b.shape), n = outputs(b.shape);
  const product = tf.customGrad((...parameters) => {
    const [a, b, save] = parameters as [tf.Tensor, tf.Tensor, tf.GradSaveFunc];
    save([a, b]);
    const spread = tf.mul(tf.reshape(a, [1, p, 1, q, 1]), tf.reshape(b, [-1, 1, m, 1, n]));
    return {
      value: tf.reshape(spread, [...space(b.shape), p * m, q * n]), // [k, p, m, q, n] -> [...k, p·m, q·n]
      gradFunc: (dy: tf.Tensor, [a, b]: tf.Tensor[]) =>
        tf.tidy(() => {
          const R = tf.transpose(tf.reshape(dy, [-1, p, m, q, n]), [1, 3, 0, 2, 4]);
          const rows = tf.reshape(R, [p * q, b.size]); // [p, q, k, m, n] -> [p·q, k·m·n]
          return [
            tf.reshape(tf.matMul(rows, tf.reshape(b, [-1, 1])), a.shape),
            tf.reshape(tf.matMul(tf.reshape(a, [1, -1]), rows), b.shape),
          ];
        }),
    };
  });
  return tf.tidy(() => product(a, b));
}

/** What {@link nearestKronecker} finds. */
export interface NearestKronecker {
  /** `[p, q]` */
  a: Matrix;
  /** `[...k, m, n]` */
  b: NdArray<Float64Array>;
  /** singular values of the rearranged kernel: with r terms `Σ aᵢ ⊗ bᵢ` the error is that of values after r */
  spectrum: Float64Array;
  /** `‖W − a ⊗ b‖ / ‖W‖` */
  error: number;
}

/**
 * The a, b of `min ‖W − a ⊗ b‖`, of equal norms.
 *
 * Van Loan & Pitsianis 1993: put every block of W that a[i, j] multiplies into a row. Of that matrix,
 * pq × kmn, a ⊗ b is the outer product of all of a with all of b, so its largest singular triplet is the
 * answer, and the rest of its singular values are the error.
 *
 * @param kernel `[...k, p·m, q·n]`
 * @param shape `[p, q]` of a
 * @throws {RangeError} when p or q does not divide its axis, or a number of W is not finite
 */
export function nearestKronecker(kernel: NdArray, [p, q]: Shape): NearestKronecker {
  const I = inputs(kernel.shape), O = outputs(kernel.shape), K = size(space(kernel.shape));
  const m = I / p, n = O / q;
  if (!Number.isInteger(m) || !Number.isInteger(n)) {
    throw new RangeError(
      `Cannot split a kernel into ${p}×${q} blocks as they must divide its last two axes: ` +
        `current shape is ${show(kernel.shape)}`,
    );
  }
  const rearranged = matrix(p * q, K * m * n);
  let at = 0;
  for (let i = 0; i < p; i++) {
    for (let j = 0; j < q; j++) {
      for (let k = 0; k < K; k++) {
        for (let x = 0; x < m; x++) {
          const from = (k * I + i * m + x) * O + j * n;
          for (let y = 0; y < n; y++) rearranged.data[at++] = kernel.data[from + y];
        }
      }
    }
  }
  const { u, s, v, spectrum } = svd(rearranged, { rank: 1 });
  const share = Math.sqrt(s[0]);
  return {
    a: matrix(p, q, u.data.map((value) => value * share)),
    b: { shape: [...space(kernel.shape), m, n], data: v.data.map((value) => value * share) },
    spectrum,
    error: lost(spectrum, 1),
  };
}
