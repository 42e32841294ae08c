/**
 * The SVD of a square matrix: to bidiagonal form by reflections, to diagonal form by rotations.
 *
 * Golub & Kahan 1965, Golub & Reinsch 1970; the shift and the order of operations in a sweep are those
 * of LAPACK's dbdsqr (Demmel & Kahan 1990).
 */
import { type Matrix, matrix, transpose } from "./matrix.ts";
import { orthonormal, reflector } from "./qr.ts";

/** Sweeps per singular value after which something is wrong; two are usual. */
const PATIENCE = 60;

/** Rotations kept back before they are applied: 16 bytes each, they fit the second cache. */
const POSTPONED = 8192;

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

/** `[c s; −s c] · [f; g] = [r; 0]`; what has lost digits to underflow is not turned. */
function rotation(f: number, g: number) {
  const r = Math.sqrt(f * f + g * g);
  return r < 1e-140 ? { r: f, c: 1, s: 0 } : { r, c: f / r, s: g / r };
}

/** The smaller singular value of `[f g; 0 h]`: |fh| over the larger one. */
function smaller(f: number, g: number, h: number): number {
  const sum = Math.abs(f) + Math.abs(h), difference = Math.abs(f) - Math.abs(h);
  return 2 * Math.abs(f * h) /
    (Math.sqrt(sum * sum + g * g) + Math.sqrt(difference * difference + g * g));
}

/**
 * Sweeps of rotations of neighbouring columns, collected and applied together.
 *
 * A sweep touches the whole matrix, which is larger than a cache; so sweeps wait until there are many,
 * and every four rows take all of them while they are near. Along a row each rotation hands one number
 * to the next; four rows side by side hide the wait for it.
 */
function rotations({ data, rows: n, columns }: Matrix) {
  const cosines = new Float64Array(POSTPONED + columns);
  const sines = new Float64Array(POSTPONED + columns);
  const four = new Float64Array(4 * columns);
  let sweeps: { column: number; begin: number; end: number }[] = [];
  let count = 0;

  const apply = () => {
    for (let top = 0; top < n; top += 4) {
      const height = Math.min(4, n - top);
      for (let i = 0; i < height; i++) {
        const row = (top + i) * columns;
        for (let j = 0; j < columns; j++) four[4 * j + i] = data[row + j];
      }
      for (const { column, begin, end } of sweeps) {
        let at = 4 * column;
        let a = four[at], b = four[at + 1], c = four[at + 2], d = four[at + 3];
        for (let k = begin; k < end; k++, at += 4) {
          const cosine = cosines[k], sine = sines[k];
          const p = four[at + 4], q = four[at + 5], r = four[at + 6], s = four[at + 7];
          four[at] = cosine * a + sine * p, a = cosine * p - sine * a;
          four[at + 1] = cosine * b + sine * q, b = cosine * q - sine * b;
          four[at + 2] = cosine * c + sine * r, c = cosine * r - sine * c;
          four[at + 3] = cosine * d + sine * s, d = cosine * s - sine * d;
        }
        four[at] = a, four[at + 1] = b, four[at + 2] = c, four[at + 3] = d;
      }
      for (let i = 0; i < height; i++) {
        const row = (top + i) * columns;
        for (let j = 0; j < columns; j++) data[row + j] = four[4 * j + i];
      }
    }
    sweeps = [];
    count = 0;
  };
  const sweep = (column: number, length: number) => {
    if (count >= POSTPONED) apply();
    sweeps.push({ column, begin: count, end: count + length });
  };
  const add = (cosine: number, sine: number) => {
    cosines[count] = cosine;
    sines[count++] = sine;
  };
  return { sweep, add, apply };
}
