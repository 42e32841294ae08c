/** Float64 matrices for the tests of decompositions. */
import { type Matrix, matrix, multiply, norm, transpose } from "../../lib/tensor/matrix.ts";
import { qr } from "../../lib/tensor/qr.ts";
import { generator } from "../../lib/tensor/random.ts";
import type { Svd } from "../../lib/tensor/svd.ts";

/** Numbers between −½ and ½. */
export function noise(rows: number, columns: number, seed: number): Matrix {
  const next = generator(seed);
  return matrix(rows, columns, Array.from({ length: rows * columns }, () => next() - 0.5));
}

/** Element by element. */
export function map(a: Matrix, value: (x: number, i: number, j: number) => number): Matrix {
  const { rows, columns, data } = a;
  const values = data.map((x, at) => value(x, Math.floor(at / columns), at % columns));
  return matrix(rows, columns, values);
}

/** A matrix with given singular values and random singular vectors. */
export function withSpectrum(rows: number, columns: number, s: readonly number[]): Matrix {
  const u = qr(noise(rows, s.length, 1)).q, v = qr(noise(columns, s.length, 2)).q;
  return multiply(map(u, (x, _, j) => x * s[j]), transpose(v));
}

/** `‖A − B‖ / ‖A‖`, or `‖B‖` where A is zero. */
export function difference(a: Matrix, b: Matrix): number {
  return norm(map(a, (x, i, j) => x - b.data[i * b.columns + j])) / (norm(a) || 1);
}

/** `u · diag(s) · vᵀ`. */
export function product({ u, s, v }: Svd): Matrix {
  return multiply(map(u, (x, _, j) => x * s[j]), transpose(v));
}

/** `max |QᵀQ − I|`. */
export function skew(q: Matrix): number {
  const gram = multiply(transpose(q), q);
  return map(gram, (x, i, j) => Math.abs(x - (i === j ? 1 : 0))).data.reduce((a, b) =>
    Math.max(a, b)
  );
}
