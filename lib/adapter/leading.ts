/**
 * The largest singular triplets of a difference of kernels, on the engine.
 *
 * Subspace iteration with a Chebyshev filter (Zhou, Saad, Tiago & Chelikowsky, "Self-consistent-field calculations using
 * Chebyshev-filtered subspace iteration", 2006): a polynomial of AᵀA that is small on [0, b] and grows as fast as any
 * beyond, b the smallest Ritz value so far. What is as long as the kernel is the engine's, in float32, as precise as the
 * kernel is; what is as small as the rank is float64.
 */
import * as tf from "@tensorflow/tfjs";
import { eigen } from "../tensor/eigen.ts";
import { addProduct, type Matrix, matrix, multiply, transpose, whole } from "../tensor/matrix.ts";
import { qr } from "../tensor/qr.ts";
import { generator } from "../tensor/random.ts";
import type { Svd } from "../tensor/svd.ts";
import { matrixOf, scoped, upload } from "./matrices.ts";
import { firstColumns } from "./spectrum.ts";

/** Triplets of a matrix, nearly. */
export interface Leading extends Svd {
  /** how far a singular value of the matrix is from each of `s` at the most */
  within: Float64Array;
}

/** How many vectors for so many triplets. */
export const widthFor = (count: number): number => count + Math.min(8, 3 + count);

/** How often the space is filtered at the most, and what it still gained when it was last worth it, as a share of the rest. */
const CYCLES = 12, ENOUGH = 1e-3;

/** A filter that lifts the largest more than so far above the smallest leaves of that one nothing but float32's rounding. */
const GROWTH = Math.acosh(1e3);

/** The most that a filter multiplies by AᵀA, where all singular values are alike. */
const STEPS = 16;

const FLOAT = 2 ** -24;

/**
 * `L` of `G = L Lᵀ`, inverted and transposed: `Y L⁻ᵀ` is orthonormal where `G = YᵀY`.
 *
 * As G is a product of float32, its columns are brought to length 1 and its diagonal is raised by as much as rounding may
 * have lowered it; so the result is orthonormal where Y has full rank, and finite where it has not.
 */
function whitening({ rows: n, data }: Matrix): Matrix {
  const lengths = Float64Array.from({ length: n }, (_, i) => Math.sqrt(data[i * n + i]) || 1);
  const L = matrix(n, n), inverse = matrix(n, n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = i === j ? 1 + 2 * n * FLOAT : data[i * n + j] / (lengths[i] * lengths[j]);
      for (let k = 0; k < j; k++) sum -= L.data[i * n + k] * L.data[j * n + k];
      L.data[i * n + j] = i === j ? Math.sqrt(Math.max(sum, n * FLOAT)) : sum / L.data[j * n + j];
    }
  }
  for (let j = 0; j < n; j++) { // column j of L⁻¹ as row j
    for (let i = j; i < n; i++) {
      let sum = i === j ? 1 : 0;
      for (let k = j; k < i; k++) sum -= L.data[i * n + k] * inverse.data[j * n + k];
      inverse.data[j * n + i] = sum / L.data[i * n + i];
    }
  }
  return matrix(n, n, inverse.data.map((value, at) => value / lengths[Math.floor(at / n)]));
}

/** An orthonormal basis of the columns, as precise as float32: once more, as once leaves what rounding did. */
function orthonormal(y: tf.Tensor2D): tf.Tensor2D {
  return tf.tidy(() => {
    const once = (q: tf.Tensor2D): tf.Tensor2D =>
      tf.matMul(q, upload(whitening(matrixOf(tf.matMul(q, q, true)))));
    return once(once(y));
  });
}

/** Signs by chance: as good as normal numbers to begin with, and soon made. */
function signs(rows: number, columns: number): tf.Tensor2D {
  const next = generator(0), data = new Float32Array(rows * columns);
  for (let i = 0; i < data.length;) {
    let bits = Math.floor(next() * 2 ** 32);
    for (let k = 0; k < 32 && i < data.length; k++, bits >>>= 1) data[i++] = bits & 1 ? 1 : -1;
  }
  return tf.tensor2d(data, [rows, columns]);
}

/** Where the short side is below so many widths and half the long one, AᵀA itself costs less than the products it saves. */
const BUILT = 16;

/** Below this share of σ₁² what float32 leaves of AᵀA is rounding. */
const CLEAR = 1e-5;

/**
 * The `count` largest triplets of a matrix `[m, n]`, nearly.
 *
 * @param energy ‖A‖²
 */
export function leading(a: tf.Tensor2D, count: number, energy: number): Leading {
  return scoped(() => {
    const wide = a.shape[0] < a.shape[1], short = Math.min(...a.shape);
    const width = Math.min(widthFor(count), short);
    // B is A, or Aᵀ if A is wide: vectors x of the short side, y of the long one
    const forward = (x: tf.Tensor2D): tf.Tensor2D => tf.matMul(a, x, wide);
    const backward = (y: tf.Tensor2D): tf.Tensor2D => tf.matMul(a, y, !wide);

    // BᵀB itself, where it is worth it, and while what is sought is clear of its rounding
    const isBuilt = short <= BUILT * width && a.size >= 2 * short * short;
    let built = isBuilt ? tf.matMul(a, a, !wide, wide) : undefined;
    const squared = (x: tf.Tensor2D): tf.Tensor2D =>
      tf.tidy(() => built ? tf.matMul(built, x) : backward(forward(x))); // BᵀB x
    const projected = (q: tf.Tensor2D) =>
      scoped(() => {
        const image = built ? squared(q) : forward(q);
        return matrixOf(tf.matMul(built ? q : image, image, true));
      });

    let q = orthonormal(squared(orthonormal(squared(signs(short, width)))));
    for (let cycle = 0, held = 0; cycle < CYCLES; cycle++) {
      const { values, vectors } = eigen(projected(q));
      const now = values.subarray(0, count).reduce((sum, value) => sum + value, 0);
      if (now - held <= Math.max(ENOUGH * (energy - now), FLOAT * energy)) break;
      held = now;
      const [top] = values, bound = Math.max(values[width - 1], FLOAT ** 2 * top);
      if (bound < CLEAR * top) built = undefined;
      const degree = Math.floor(GROWTH / Math.acosh(2 * top / bound - 1));
      const steps = Math.max(1, Math.min(degree, STEPS));
      q = tf.tidy(() =>
        orthonormal(filtered(squared, tf.matMul(q, upload(vectors)), bound, steps))
      );
    }
    const basis = qr(matrixOf(q)).q, image = matrixOf(forward(upload(basis)));
    const { inner, s, outer, least } = best(basis, image, count);
    const back = matrixOf(backward(upload(outer)));
    const missed = lengths( // of each BᵀB x − σ² x, divided by σ
      matrix(short, count, back.data.map((value, at) => value - s[at % count] * inner.data[at])),
    );
    // Weyl's bound, or that of Kato and Temple for what lies above all that was left out; and float32's rounding
    const within = missed.map((ρ, i) => {
      const gap = s[i] ** 2 - least;
      return 4 * FLOAT * s[0] + (gap > 0 ? Math.min(ρ, 2 * s[i] * ρ * ρ / gap) : ρ);
    });
    return wide ? { u: inner, s, v: outer, within } : { u: outer, s, v: inner, within };
  });
}

/** `T_degree(2C/b − 1) x`, without the first's scale: `T_{k+1} = 2 t T_k − T_{k−1}`. */
function filtered(
  C: (x: tf.Tensor2D) => tf.Tensor2D,
  x: tf.Tensor2D,
  b: number,
  degree: number,
): tf.Tensor2D {
  const t = (y: tf.Tensor2D, by: number): tf.Tensor2D =>
    tf.sub(tf.mul(C(y), 2 * by / b), tf.mul(y, by));
  let before = x, now = t(x, 1);
  for (let k = 1; k < degree; k++) [before, now] = [now, tf.sub(t(now, 2), before)];
  return now;
}

/** The largest triplets in a space: of orthonormal columns on the short side and their images on the long one. */
function best(basis: Matrix, image: Matrix, count: number) {
  const rows = transpose(image), gram = matrix(rows.rows, rows.rows);
  addProduct(whole(gram), whole(rows), whole(rows), 1);
  const { values, vectors } = eigen(gram), chosen = firstColumns(vectors, count);
  const stretched = multiply(image, chosen);
  const s = lengths(stretched);
  const outer = matrix(
    stretched.rows,
    count,
    stretched.data.map((value, at) => value / (s[at % count] || 1)),
  );
  return { inner: multiply(basis, chosen), s, outer, least: values[values.length - 1] };
}

/** ‖column‖ of each. */
function lengths({ columns, data }: Matrix): Float64Array {
  const squares = new Float64Array(columns);
  for (let i = 0; i < data.length; i++) squares[i % columns] += data[i] * data[i];
  return squares.map(Math.sqrt);
}
