/**
 * The SVD of a square matrix: to bidiagonal form by reflections, to diagonal form by rotations.
 *
 * Golub & Kahan 1965, Golub & Reinsch 1970; the shift and the order of operations in a sweep are those
 * of LAPACK's dbdsqr (Demmel & Kahan 1990).
 */
import { type Matrix, matrix, transpose } from "./matrix.ts";
import { orthonormal, reflector } from "./qr.ts";
import { rotation, rotations } from "./rotations.ts";

/** Sweeps per singular value after which something is wrong; two are usual. */
const PATIENCE = 60;

/**
 * `A = Σ s_i u_i v_iᵀ`, singular values descending, singular vectors in the rows of `u` and `v`.
 *
 * Errors are a few n·ε times the largest singular value, small singular values included.
 *
 * @param a n×n numbers near 1 (`binaryScale`); overwritten
 */
export function squareSvd(a: Matrix): { u: Matrix; s: Float64Array; v: Matrix } {
  const n = a.rows;
  const { diagonal, above, left, right } = bidiagonal(a);
  const u = transpose(orthonormal(left)), v = transpose(orthonormal(right));
  diagonalize(diagonal, above, u, v);

  const order = Array.from(diagonal.keys()).sort((i, j) =>
    Math.abs(diagonal[j]) - Math.abs(diagonal[i])
  );
  const pick = (vectors: Matrix, flip: boolean) => {
    const { data } = transpose(vectors);
    const result = matrix(n, n);
    order.forEach((from, to) => {
      const row = data.subarray(from * n, (from + 1) * n);
      result.data.set(flip && diagonal[from] < 0 ? row.map((x) => -x) : row, to * n);
    });
    return result;
  };
  const s = Float64Array.from(order, (i) => Math.abs(diagonal[i]));
  return { u: pick(u, false), s, v: pick(v, true) };
}

/**
 * `A = U B Vᵀ` with B upper bidiagonal, U and V products of reflections (rows, as in `qr.ts`).
 *
 * Step k reflects column k onto the diagonal (u) and row k onto the element after it (v). Rows are
 * visited once a step: the rows below take the left reflection, then at once the right one.
 */
function bidiagonal(a: Matrix) {
  const n = a.rows, A = a.data;
  const diagonal = new Float64Array(n), above = new Float64Array(Math.max(0, n - 1));
  const left = matrix(n, n), right = matrix(n, n);
  const w = new Float64Array(n);
  for (let k = 0; k < n; k++) {
    const u = left.data.subarray(k * n, (k + 1) * n);
    for (let i = k; i < n; i++) u[i] = A[i * n + k];
    diagonal[k] = reflector(u, k, n);
    if (k === n - 1) break;

    w.fill(0); // uᵀ A
    for (let i = k; i < n; i++) {
      const x = u[i], row = i * n;
      for (let j = k + 1; j < n; j++) w[j] += x * A[row + j];
    }
    const v = right.data.subarray(k * n, (k + 1) * n);
    for (let j = k + 1; j < n; j++) v[j] = A[k * n + j] - u[k] * w[j];
    above[k] = reflector(v, k + 1, n);
    for (let i = k + 1; i < n; i++) {
      const x = u[i], row = i * n;
      let dot = 0;
      for (let j = k + 1; j < n; j++) dot += (A[row + j] -= x * w[j]) * v[j];
      for (let j = k + 1; j < n; j++) A[row + j] -= dot * v[j];
    }
  }
  return { diagonal, above, left, right };
}

/**
 * Turns a bidiagonal matrix into a diagonal one by implicit QR sweeps, and the columns of u and v with
 * it: U B Vᵀ stays what it was. Both lists are overwritten; the diagonal may become negative.
 */
function diagonalize(d: Float64Array, e: Float64Array, u: Matrix, v: Matrix): void {
  let size = 0;
  for (let i = 0; i < d.length; i++) size = Math.max(size, Math.abs(d[i]), Math.abs(e[i] ?? 0));
  const negligible = Number.EPSILON * size;
  const left = rotations(u), right = rotations(v);
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

    let shift = smaller(d[last - 1], e[last - 1], d[last]);
    for (let i = first; i <= last; i++) {
      if (Math.abs(d[i]) <= negligible) d[i] = shift = 0; // unshifted sweeps move it to the end
    }
    // [f g] is the first row of BᵀB − shift², divided by d
    let f = shift === 0 ? d[first] : (d[first] - shift) * (1 + shift / d[first]);
    let g = e[first];
    left.sweep(first, last - first);
    right.sweep(first, last - first);
    for (let k = first; k < last; k++) {
      let { r, c, s } = rotation(f, g);
      right.add(c, s);
      if (k > first) e[k - 1] = r;
      f = c * d[k] + s * e[k];
      e[k] = c * e[k] - s * d[k];
      g = s * d[k + 1];
      d[k + 1] *= c;

      ({ r, c, s } = rotation(f, g));
      left.add(c, s);
      d[k] = r;
      f = c * e[k] + s * d[k + 1];
      d[k + 1] = c * d[k + 1] - s * e[k];
      if (k < last - 1) {
        g = s * e[k + 1];
        e[k + 1] *= c;
      }
    }
    e[last - 1] = f;
  }
  left.apply();
  right.apply();
}

/** The smaller singular value of `[f g; 0 h]`: |fh| over the larger one. */
function smaller(f: number, g: number, h: number): number {
  const sum = Math.abs(f) + Math.abs(h), difference = Math.abs(f) - Math.abs(h);
  return 2 * Math.abs(f * h) /
    (Math.sqrt(sum * sum + g * g) + Math.sqrt(difference * difference + g * g));
}
