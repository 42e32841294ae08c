/** Singular value decomposition in float64: of any matrix, and of a large one for few triplets. */
import { squareSvd } from "./bidiagonal.ts";
import {
  addProduct,
  binaryScale,
  type Block,
  type Matrix,
  matrix,
  multiply,
  rows,
  transpose,
  transposeInto,
  whole,
} from "./matrix.ts";
import { orthonormal, reduce, rotate } from "./qr.ts";
import { normal } from "./random.ts";

/** `A ≈ u · diag(s) · vᵀ`: u m×k and v n×k with orthonormal columns, s descending. */
export interface Svd {
  u: Matrix;
  s: Float64Array;
  v: Matrix;
}

/** Which triplets of a singular value decomposition are kept; all min(m, n) unless told. */
export interface Kept {
  /** at most so many */
  rank?: number;
  /** only those with s of at least this share of the largest */
  tolerance?: number;
}

/** The relative error of an SVD cut after `kept` triplets: `√(Σ_{i≥kept} sᵢ² / Σ sᵢ²)`. */
export function lost(spectrum: Float64Array, kept: number): number {
  if (spectrum[0] === 0) return 0;
  const energy = (values: Float64Array) =>
    values.reduce((sum, s) => sum + (s / spectrum[0]) ** 2, 0);
  return Math.sqrt(energy(spectrum.subarray(kept)) / energy(spectrum));
}

/** Singular values above this share of the largest are far enough from rounding to divide by. */
const CLEAR = 1e-3;

/**
 * `A = u · diag(s) · vᵀ`, the thin SVD of any m×n matrix, or its largest triplets, at least one.
 *
 * The long side T (A, or Aᵀ if A is wide) becomes a triangle, `T = QR`, the triangle is decomposed,
 * `R = X S Yᵀ`, and `T = (QX) S Yᵀ`. Backward stable: the error of A and of every singular value is a
 * few n·ε of the largest one. If A is zero, so are all s, and u and v are still orthonormal.
 *
 * @returns besides the triplets the `spectrum`: all min(m, n) singular values, also those cut off
 * @throws {RangeError} when a number of A is not finite, or `rank` is not a positive integer
 */
export function svd(
  a: Matrix<Float32Array | Float64Array>,
  { rank, tolerance = 0 }: Kept = {},
): Svd & { spectrum: Float64Array } {
  const scale = binaryScale(a);
  const scaled = matrix(a.rows, a.columns, new Float64Array(a.data));
  for (let i = 0; i < scaled.data.length; i++) scaled.data[i] *= scale;
  const turned = transpose(scaled);
  const wide = a.rows < a.columns;
  const [tall, columns] = wide ? [turned, scaled] : [scaled, turned];
  const [m, n] = [tall.rows, tall.columns];

  const { r, reflections } = reduce(columns);
  const { u: x, s, v: y } = squareSvd(r);
  let count = rank === undefined ? n : Math.min(checkedRank(rank), n);
  while (count > 1 && s[count - 1] < tolerance * s[0]) count--;

  // QX = T Y S⁻¹ costs half of turning X by Q, and is orthonormal to ε s₀/s
  let clear = 0;
  while (clear < count && s[clear] > CLEAR * s[0]) clear++;
  const long = matrix(count, m), short = matrix(count, n, y.data.subarray(0, count * n));
  addProduct(rows(long, 0, clear), rows(short, 0, clear), whole(tall), 1);
  for (let i = 0; i < clear; i++) {
    for (let j = i * m; j < (i + 1) * m; j++) long.data[j] /= s[i];
  }
  for (let i = clear; i < count; i++) {
    long.data.set(x.data.subarray(i * n, (i + 1) * n), i * m);
  }
  rotate(reflections, rows(long, clear, count));

  const [u, v] = wide ? [short, long] : [long, short];
  const spectrum = s.map((value) => value / scale);
  return { u: transpose(u), s: spectrum.slice(0, count), v: transpose(v), spectrum };
}

/** How {@link randomizedSvd} searches. */
export interface Search {
  /** random vectors beyond the rank */
  oversample?: number;
  /** how often A and Aᵀ are applied again: each time the unwanted triplets fade by (s/s_rank)² */
  iterations?: number;
  seed?: number;
}

/**
 * The `rank` largest triplets of a large matrix, nearly: A is read `2 · iterations + 3` times, never copied.
 *
 * Halko, Martinsson & Tropp, "Finding structure with randomness", 2011, algorithms 4.4 and 5.1: random
 * vectors go through A, and the space Q they span nearly holds the largest singular vectors; then the SVD
 * of the small QᵀA is cut at the rank.
 *
 * @returns besides the triplets the `residual` `‖A − u · diag(s) · vᵀ‖ / ‖A‖`, from the difference itself:
 * `√(1 − Σs²/‖A‖²)` would be the same number, but its rounding hides residuals below 1e-8
 * @throws {RangeError} when a number of A is not finite, or `rank` is not a positive integer
 */
export function randomizedSvd(
  a: Matrix<Float32Array | Float64Array>,
  rank: number,
  { oversample = 8, iterations = 2, seed = 0 }: Search = {},
): Svd & { residual: number } {
  const scale = binaryScale(a);
  const [m, n] = [a.rows, a.columns];
  const width = Math.min(checkedRank(rank) + oversample, m, n);
  const basis = (x: Matrix) => orthonormal(reduce(x).reflections);
  const forward = (z: Matrix) => { // rows Az
    const y = matrix(width, m);
    for (const [from, block] of blocks(a, scale)) {
      addProduct({ ...rows(y, 0, width, from), columns: block.rows }, whole(z), block, 1);
    }
    return y;
  };
  const backward = (y: Matrix) => { // rows Aᵀy
    const z = matrix(width, n);
    for (const [from, block] of blocks(a, scale)) {
      const turned = matrix(n, block.rows);
      transposeInto(turned.data, block);
      addProduct(whole(z), { ...rows(y, 0, width, from), columns: block.rows }, whole(turned), 1);
    }
    return z;
  };

  let q = basis(forward(matrix(width, n, normal([width, n], 1, seed))));
  for (let i = 0; i < iterations; i++) q = basis(forward(basis(backward(q))));
  const { u: x, s, v } = svd(backward(q), { rank });
  const u = multiply(transpose(q), x); // [m, width] · [width, rank]

  const stretched = matrix(m, s.length, u.data.map((value, i) => value * s[i % s.length]));
  let missed = 0, all = 0;
  for (const [from, block] of blocks(a, scale)) {
    const { data } = block, end = block.rows * n;
    for (let i = 0; i < end; i++) all += data[i] * data[i];
    addProduct(block, rows(stretched, from, from + block.rows), whole(v), -1);
    for (let i = 0; i < end; i++) missed += data[i] * data[i];
  }
  const residual = all === 0 ? 0 : Math.sqrt(missed / all);
  return { u, s: s.map((value) => value / scale), v, residual };
}

/** A matrix in runs of 64 rows, scaled, in float64; each run is overwritten by the next. */
function* blocks(
  { rows: m, columns: n, data }: Matrix<Float32Array | Float64Array>,
  scale: number,
): Generator<[from: number, block: Block]> {
  const height = Math.min(64, m), run = new Float64Array(height * n);
  for (let from = 0; from < m; from += height) {
    const count = Math.min(height, m - from);
    run.set(data.subarray(from * n, (from + count) * n));
    for (let i = 0; i < count * n; i++) run[i] *= scale;
    yield [from, { data: run, start: 0, stride: n, rows: count, columns: n }];
  }
}

function checkedRank(rank: number): number {
  if (!(Number.isInteger(rank) && rank >= 1)) {
    throw new RangeError(
      `Cannot decompose a matrix as its rank must be a positive integer: current rank is ${rank}`,
    );
  }
  return rank;
}
