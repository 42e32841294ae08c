/**
 * Householder QR in blocks.
 *
 * A reflection is `H = I − v vᵀ` with ‖v‖² = 2. A product of reflections needs no recurrence then:
 *
 *     H₁ H₂ … H_b = I − Vᵀ T V,   T⁻¹ = I + the part of V Vᵀ above its diagonal,   V = rows v₁ … v_b
 *
 * (the compact WY form of Schreiber & Van Loan 1989, T by the UT transform of Joffrain, Low,
 * Quintana-Ortí, van de Geijn & Van Zee 2006; b = 2 shows it: `H₁H₂ = I − v₁v₁ᵀ − v₂v₂ᵀ + v₁(v₁ᵀv₂)v₂ᵀ`).
 * So almost all work is products of matrices. Vectors lie in rows here: the matrix to be reduced comes
 * as Aᵀ, whose row j is column j of A.
 */
import {
  addProduct,
  binaryScale,
  type Block,
  type Matrix,
  matrix,
  rows,
  transpose,
  transposeInto,
  whole,
} from "./matrix.ts";

/** Reflections applied at once: deep enough for fast products, few enough that V Vᵀ costs little. */
const BREADTH = 64;

/** Where the recursion ends and columns are reduced one after the other. */
const NARROW = 8;

/** Squared lengths of numbers near 1 that are below this have lost digits to underflow: zero. */
const NOTHING = 1e-280;

/**
 * Thin QR: `A = Q R`, Q m×k with orthonormal columns, R k×n upper triangular, k = min(m, n).
 *
 * Backward stable: ‖A − QR‖ is a few ε‖A‖, whatever A is. The diagonal of R may have either sign.
 *
 * @throws {RangeError} when a number of A is not finite
 */
export function qr(a: Matrix): { q: Matrix; r: Matrix } {
  const scale = binaryScale(a);
  const columns = transpose(a);
  for (let i = 0; i < columns.data.length; i++) columns.data[i] *= scale;
  const { r, reflections } = reduce(columns);
  for (let i = 0; i < r.data.length; i++) r.data[i] /= scale;
  return { q: transpose(orthonormal(reflections)), r };
}

/**
 * Reduces Aᵀ, n×m, to `A = Q R`: R k×n, and Q as k reflections, rows of length m, `Q = H₁ H₂ … H_k`.
 *
 * The numbers should be near 1 (`binaryScale`); they are overwritten, by the reflections.
 */
export function reduce(columns: Matrix): { r: Matrix; reflections: Matrix } {
  const { rows: n, columns: m, data } = columns;
  const k = Math.min(m, n);
  const r = matrix(k, n);

  const step = (from: number, to: number) => {
    if (to - from > NARROW) {
      const middle = from + Math.min(BREADTH, (to - from) >> 1);
      step(from, middle);
      reflect(rows(columns, from, middle, from), rows(columns, middle, to, from), "forward");
      step(middle, to);
      return;
    }
    for (let j = from; j < to; j++) {
      for (let i = 0; i < j; i++) r.data[i * n + j] = data[j * m + i];
      data.fill(0, j * m, j * m + j);
      r.data[j * n + j] = reflector(data, j * m + j, (j + 1) * m);
      for (let i = j + 1; i < to; i++) {
        const shift = (i - j) * m;
        let dot = 0;
        for (let t = j * m + j; t < (j + 1) * m; t++) dot += data[t] * data[t + shift];
        for (let t = j * m + j; t < (j + 1) * m; t++) data[t + shift] -= dot * data[t];
      }
    }
  };
  step(0, k);

  const reflections = matrix(k, m, data.subarray(0, k * m));
  if (n > k) {
    for (let from = 0; from < k; from += BREADTH) {
      const to = Math.min(from + BREADTH, k);
      reflect(rows(reflections, from, to, from), rows(columns, k, n, from), "forward");
    }
    for (let j = k; j < n; j++) {
      for (let i = 0; i < k; i++) r.data[i * n + j] = data[j * m + i];
    }
  }
  return { r, reflections };
}

/** The first k columns of `Q = H₁ … H_k` as rows, k×m. */
export function orthonormal(reflections: Matrix): Matrix {
  const { rows: k, columns: m } = reflections;
  const result = matrix(k, m);
  for (let i = 0; i < k; i++) result.data[i * m + i] = 1;
  // reflections from `from` on do not touch the first `from` axes, so neither these rows
  for (let from = Math.floor((k - 1) / BREADTH) * BREADTH; from >= 0; from -= BREADTH) {
    const to = Math.min(from + BREADTH, k);
    reflect(rows(reflections, from, to, from), rows(result, from, k, from), "backward");
  }
  return result;
}

/** `x ← Q x` for every row x of a block, c×m, with `Q = H₁ … H_k`. */
export function rotate(reflections: Matrix, x: Block): void {
  const { rows: k } = reflections;
  for (let from = Math.floor((k - 1) / BREADTH) * BREADTH; from >= 0; from -= BREADTH) {
    const to = Math.min(from + BREADTH, k);
    const tail = { ...x, start: x.start + from, columns: x.columns - from };
    reflect(rows(reflections, from, to, from), tail, "backward");
  }
}

/**
 * `x ← H_b … H₁ x` ("forward", the order of a reduction) or `x ← H₁ … H_b x` ("backward") for every
 * row x of a block: `X ← X − Y V` where `Y T⁻¹ = X Vᵀ` ("forward") or `Y T⁻ᵀ = X Vᵀ`.
 */
function reflect(v: Block, x: Block, order: "forward" | "backward"): void {
  if (x.rows === 0) return;
  const b = v.rows;
  const gram = matrix(b, b), product = matrix(x.rows, b);
  addProduct(whole(gram), v, v, 1);
  addProduct(whole(product), x, v, 1);
  const g = gram.data, y = product.data;
  for (let row = 0; row < y.length; row += b) {
    if (order === "forward") {
      for (let i = 0; i < b; i++) {
        for (let j = i + 1; j < b; j++) y[row + j] -= y[row + i] * g[i * b + j];
      }
    } else {
      for (let j = b - 1; j > 0; j--) {
        for (let i = 0; i < j; i++) y[row + i] -= y[row + j] * g[j * b + i];
      }
    }
  }
  const columns = matrix(v.columns, b);
  transposeInto(columns.data, v);
  addProduct(x, whole(product), whole(columns), -1);
}

/**
 * Overwrites x, a part of an array, by the v, ‖v‖² = 2, whose reflection sends x to the first axis.
 *
 * `v ∝ x + sign(x₀)‖x‖e₀`, whose squared length is `2‖x‖(‖x‖ + |x₀|)`. If x has no length, v = 0.
 *
 * @returns what becomes of x₀: `−sign(x₀)‖x‖`
 */
export function reflector(x: Float64Array, start: number, end: number): number {
  let square = 0;
  for (let i = start; i < end; i++) square += x[i] * x[i];
  const first = x[start];
  if (square < NOTHING) {
    x.fill(0, start, end);
    return first;
  }
  const length = first < 0 ? -Math.sqrt(square) : Math.sqrt(square);
  const divisor = Math.sqrt(length * (length + first));
  x[start] += length;
  for (let i = start; i < end; i++) x[i] /= divisor;
  return -length;
}
