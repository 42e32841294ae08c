/**
 * Eigenvalues and eigenvectors of a symmetric matrix in float64: to tridiagonal form by reflections, to
 * diagonal form by rotations (Golub & Van Loan, "Matrix computations", 8.3).
 */
import { binaryScale, type Matrix, matrix, transpose } from "./matrix.ts";
import { orthonormal, reflector } from "./qr.ts";
import { rotation, rotations } from "./rotations.ts";

/** Sweeps per eigenvalue after which something is wrong; two are usual. */
const PATIENCE = 60;

/** `A = V diag(λ) Vᵀ`: λ descending, eigenvectors in the columns of V. */
export interface Eigen {
  values: Float64Array;
  vectors: Matrix;
}

/**
 * The eigenvalues of a symmetric matrix, descending, and its eigenvectors.
 *
 * Backward stable: every error is a few n·ε of the largest |λ|.
 *
 * @param a n×n; read below its diagonal and on it
 * @throws {RangeError} when a number of A is not finite
 */
export function eigen(a: Matrix): Eigen {
  const n = a.rows, { diagonal, beside, reflections, scale } = tridiagonal(a);
  const q = transpose(orthonormal(reflections));
  diagonalize(diagonal, beside, q);
  const order = descending(diagonal), rows = transpose(q), sorted = matrix(n, n);
  order.forEach((from, to) => sorted.data.set(rows.data.subarray(from * n, from * n + n), to * n));
  return {
    values: Float64Array.from(order, (i) => diagonal[i] / scale),
    vectors: transpose(sorted),
  };
}

/** The eigenvalues alone, descending, for a fraction of the work: `4/3 n³` operations. */
export function eigenvalues(a: Matrix): Float64Array {
  const { diagonal, beside, scale } = tridiagonal(a);
  diagonalize(diagonal, beside);
  return Float64Array.from(descending(diagonal), (i) => diagonal[i] / scale);
}

/** Indices, of the largest value first. */
export const descending = (values: Float64Array) =>
  Array.from(values.keys()).sort((i, j) => values[j] - values[i]);

/**
 * `scale · A = Q T Qᵀ`, T tridiagonal, Q a product of reflections, in rows as in `qr.ts`.
 *
 * Reflection k sends what column k has below the diagonal onto the element next to it. It turns the rest of the matrix to
 * `A − z wᵀ − w zᵀ` with `w = Az − ½(zᵀAz) z`; this is written when the next step multiplies the rest by its own z, so
 * that the triangle is walked once a step, two rows at a time.
 */
function tridiagonal(a: Matrix) {
  const n = a.rows, scale = binaryScale(a), A = a.data.map((value) => value * scale);
  const diagonal = new Float64Array(n), beside = new Float64Array(Math.max(0, n - 1));
  const reflections = matrix(n, n); // row k for column k − 1: the first is none
  let v: Float64Array = new Float64Array(n), w = v.slice(), next = v.slice();
  for (let k = 0; k < n; k++) {
    diagonal[k] = A[k * n + k] - 2 * v[k] * w[k];
    if (k === n - 1) break;
    const z = reflections.data.subarray((k + 1) * n, (k + 2) * n);
    for (let i = k + 1; i < n; i++) z[i] = A[i * n + k] - v[i] * w[k] - w[i] * v[k];
    beside[k] = reflector(z, k + 1, n);

    next.fill(0);
    walk(A, n, k + 1, v, w, z, next);
    let along = 0;
    for (let i = k + 1; i < n; i++) along += next[i] * z[i];
    for (let i = k + 1; i < n; i++) next[i] -= along / 2 * z[i];
    [v, w, next] = [z, next, w];
  }
  return { diagonal, beside, reflections, scale };
}

/** From row and column `from` on: `A ← A − v wᵀ − w vᵀ` below the diagonal and on it, `y ← A z` of all of it. */
function walk(
  A: Float64Array,
  n: number,
  from: number,
  v: Float64Array,
  w: Float64Array,
  z: Float64Array,
  y: Float64Array,
): void {
  const alone = (i: number) => {
    const row = i * n, vi = v[i], wi = w[i], zi = z[i];
    let sum = 0;
    for (let j = from; j < i; j++) {
      const x = A[row + j] -= vi * w[j] + wi * v[j];
      sum += x * z[j];
      y[j] += x * zi;
    }
    y[i] += sum + (A[row + i] -= 2 * vi * wi) * zi;
  };
  let i = from;
  for (; i + 1 < n; i += 2) {
    const one = i * n, two = one + n;
    const v1 = v[i], w1 = w[i], z1 = z[i], v2 = v[i + 1], w2 = w[i + 1], z2 = z[i + 1];
    let sum1 = 0, sum2 = 0;
    for (let j = from; j < i; j++) {
      const vj = v[j], wj = w[j], zj = z[j];
      const x1 = A[one + j] - v1 * wj - w1 * vj, x2 = A[two + j] - v2 * wj - w2 * vj;
      A[one + j] = x1;
      A[two + j] = x2;
      sum1 += x1 * zj;
      sum2 += x2 * zj;
      y[j] += x1 * z1 + x2 * z2;
    }
    const d1 = A[one + i] -= 2 * v1 * w1, c = A[two + i] -= v2 * w1 + w2 * v1;
    const d2 = A[two + i + 1] -= 2 * v2 * w2;
    y[i] += sum1 + d1 * z1 + c * z2;
    y[i + 1] += sum2 + c * z1 + d2 * z2;
  }
  if (i < n) alone(i);
}

/**
 * Turns a tridiagonal matrix into a diagonal one by implicit QR sweeps with Wilkinson's shift, and the columns of q with
 * it, where they are asked for.
 */
export function diagonalize(d: Float64Array, e: Float64Array, q?: Matrix): void {
  let size = 0;
  for (let i = 0; i < d.length; i++) size = Math.max(size, Math.abs(d[i]), Math.abs(e[i] ?? 0));
  const negligible = Number.EPSILON * size, turned = q && rotations(q);
  let sweeps = PATIENCE * d.length;
  for (let last = d.length - 1; last > 0;) {
    if (Math.abs(e[last - 1]) <= negligible) {
      last--;
      continue;
    }
    let first = last - 1;
    while (first > 0 && Math.abs(e[first - 1]) > negligible) first--;
    if (sweeps-- === 0) {
      throw new RangeError(`Cannot decompose a matrix as ${PATIENCE} sweeps a value must suffice`);
    }

    const half = (d[last - 1] - d[last]) / 2, b = e[last - 1];
    const root = Math.sqrt(half * half + b * b);
    let f = d[first] - d[last] + b * b / (half + (half < 0 ? -root : root)), g = e[first];
    turned?.sweep(first, last - first);
    for (let k = first; k < last; k++) {
      const { r, c, s } = rotation(f, g);
      turned?.add(c, s);
      if (k > first) e[k - 1] = r;
      // [c s; −s c] [p h; h t] [c −s; s c]
      const p = d[k], h = e[k], t = d[k + 1], cross = 2 * c * s * h;
      d[k] = c * c * p + cross + s * s * t;
      d[k + 1] = s * s * p - cross + c * c * t;
      e[k] = c * s * (t - p) + (c * c - s * s) * h;
      f = e[k];
      if (k < last - 1) {
        g = s * e[k + 1];
        e[k + 1] *= c;
      }
    }
  }
  turned?.apply();
}
