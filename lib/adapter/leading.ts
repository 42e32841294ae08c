/**
 * The largest singular triplets of a difference of kernels, on the engine.
 *
 * Block Krylov iteration (Musco & Musco, "Randomized block Krylov methods for stronger and faster approximate
 * singular value decomposition", 2015): the space that random vectors span after being multiplied by DᵀD again and
 * again, all the steps together, nearly holds the largest right singular vectors, also where singular values
 * hardly fall. The products are the engine's, in float32, as precise as D is; the basis and what is decomposed in it
 * are float64.
 */
import * as tf from "@tensorflow/tfjs";
import { addProduct, type Matrix, matrix, multiply, transpose, whole } from "../tensor/matrix.ts";
import { qr } from "../tensor/qr.ts";
import { normal } from "../tensor/random.ts";
import { type Svd, svd } from "../tensor/svd.ts";
import { matrixOf, scoped, upload } from "./matrices.ts";
import { type Cut, needsAll, rankBy, rulesOf } from "./rank.ts";
import { firstOf, type Spectrum, spectrumOf } from "./spectrum.ts";

/** How many random vectors for so many triplets. */
const widthFor = (count: number) => count + Math.min(8, 3 + count);

/** How often DᵀD is applied for few triplets and for many: even of noise the error is the least but for 10⁻⁴, and for 4·10⁻³. */
const STEPS = { few: 6, many: 3 }, MANY = 32;

/** Matrices of fewer numbers are decomposed in float64 at once. */
const LARGE = 2 ** 15;

/** Up to so short a side the products of all its rows, `AAᵀ`, cost less than the search. */
const SHORT = 160;

/** Whether so many triplets of a matrix are found faster than all. */
function isFew([m, n]: readonly number[], count: number): boolean {
  const short = Math.min(m, n), width = widthFor(count);
  return m * n >= LARGE && (short <= SHORT ? width < short : (stepsOf(count) + 1) * width <= short);
}

const stepsOf = (count: number) => count < MANY ? STEPS.few : STEPS.many;

/** `A · x` or `Aᵀ · x` by the engine. */
function times(a: tf.Tensor2D, x: Matrix, turned: boolean): Matrix {
  return scoped(() => matrixOf(tf.matMul(a, upload(x), turned)));
}

/** Matrices of as many rows side by side. */
function beside(parts: readonly Matrix[]): Matrix {
  const { rows } = parts[0], columns = parts.reduce((sum, part) => sum + part.columns, 0);
  const joined = matrix(rows, columns);
  let left = 0;
  for (const { columns: width, data } of parts) {
    for (let i = 0; i < rows; i++) {
      joined.data.set(data.subarray(i * width, (i + 1) * width), i * columns + left);
    }
    left += width;
  }
  return joined;
}

/** What of y is orthogonal to a basis, as an orthonormal block; twice, as once leaves rounding. */
function apart(y: Matrix, basis: Matrix | undefined): Matrix {
  let block = y;
  for (let again = 0; again < 2; again++) {
    if (basis) {
      const inside = multiply(basis, multiply(transpose(basis), block));
      block = matrix(
        block.rows,
        block.columns,
        block.data.map((value, i) => value - inside.data[i]),
      );
    }
    block = qr(block).q;
  }
  return block;
}

/** The triplets in a space: of orthonormal columns on the short side and their images on the long one. */
function within(basis: Matrix, image: Matrix, wide: boolean): Svd {
  const { u, s, v } = svd(image), inner = multiply(basis, v);
  return wide ? { u: inner, s, v: u } : { u, s, v: inner };
}

/**
 * The leading triplets from the eigenvectors of the gram matrix, which hold them but for float32's rounding of σ₁²; A and
 * Aᵀ applied once more leave that of σ₁.
 */
function byGram(a: tf.Tensor2D, count: number): Svd {
  const wide = a.shape[0] < a.shape[1];
  const gram = scoped(() => matrixOf(tf.matMul(a, a, !wide, wide)));
  const near = svd(gram, { rank: widthFor(count) }).u;
  const basis = apart(times(a, times(a, near, wide), !wide), undefined);
  return firstOf(within(basis, times(a, basis, wide), wide), count);
}

/** The `count` largest triplets of a matrix `[m, n]`, nearly. */
export function leading(a: tf.Tensor2D, count: number, steps = stepsOf(count)): Svd {
  const wide = a.shape[0] < a.shape[1], short = Math.min(...a.shape), width = widthFor(count);
  if (short <= SHORT) return byGram(a, count);
  const bases: Matrix[] = [], images: Matrix[] = [];
  let block = matrix(short, width, normal([short, width], 1, 0));
  for (let held = 0; images.length <= steps && held + width <= short; held += width) {
    const basis = apart(block, bases.length > 0 ? beside(bases) : undefined);
    const image = times(a, basis, wide); // on the long side
    bases.push(basis);
    images.push(image);
    block = times(a, image, !wide);
  }
  // the best of the space spanned: eigenvectors of (DQ)ᵀ(DQ), then the SVD of their few images
  const image = beside(images), rows = transpose(image), gram = matrix(rows.rows, rows.rows);
  addProduct(whole(gram), whole(rows), whole(rows), 1);
  const chosen = svd(gram, { rank: count }).u;
  return within(multiply(beside(bases), chosen), multiply(image, chosen), wide);
}

/** How many triplets are sought first where the rank is not told. */
const FIRST = 16;

/**
 * The spectrum of a matrix, as far as a cut needs it: all of it from a small matrix or for a rule that sums all of it,
 * else the leading triplets, twice as many again until the rules need no more.
 *
 * @param energy ‖A‖²
 */
export function spectrumBy(a: tf.Tensor2D, energy: number, cut: Cut): Spectrum {
  const { rank, ...rules } = cut, open = rulesOf(rules).length > 0;
  if (!needsAll(cut) && (rank !== undefined || open)) {
    const most = rank ?? Infinity;
    for (
      let count = open ? Math.min(FIRST, most) : most;
      isFew(a.shape, count);
      count = Math.min(2 * count, most)
    ) {
      const found = leading(a, count);
      if (count === most || rankBy(found.s, rules, energy) < count) return partial(found, energy);
    }
  }
  return spectrumOf(svd(matrixOf(a)));
}

/** What some of the triplets tell. */
function partial(found: Svd, energy: number): Spectrum {
  return {
    s: found.s,
    energy,
    error: (rank) => {
      const kept = found.s.subarray(0, rank).reduce((sum, value) => sum + value * value, 0);
      return Math.sqrt(Math.max(0, energy - kept) / energy);
    },
    triplets: (rank) => firstOf(found, rank),
  };
}
