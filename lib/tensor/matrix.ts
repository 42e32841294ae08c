/**
 * Matrices of float64 for decompositions, outside TensorFlow.js, whose tensors are float32.
 *
 * Only what `qr.ts`, `svd.ts` and the extractions need; numbers lie row after row in one typed array,
 * so that every inner loop walks along contiguous memory.
 */
import type { Shape } from "./shape.ts";

/** `rows × columns` numbers, row after row: element `[i, j]` is `data[i · columns + j]`. */
export interface Matrix<Data extends Float32Array | Float64Array = Float64Array> {
  readonly rows: number;
  readonly columns: number;
  readonly data: Data;
}

/** Numbers of any shape, last axis fastest: what becomes of a tensor outside TensorFlow.js. */
export interface NdArray<Data extends ArrayLike<number> = ArrayLike<number>> {
  readonly shape: Shape;
  readonly data: Data;
}

/** A rectangle of numbers inside a larger array: its row i begins at `start + i · stride`. */
export interface Block {
  readonly data: Float64Array;
  readonly start: number;
  readonly stride: number;
  readonly rows: number;
  readonly columns: number;
}

/**
 * The matrix of a list of numbers in row-major order; zeros where none are given. A Float64Array is
 * not copied.
 *
 * @throws {TypeError} when there are not `rows · columns` numbers
 */
export function matrix(rows: number, columns: number, values?: ArrayLike<number>): Matrix {
  const data = values === undefined
    ? new Float64Array(rows * columns)
    : values instanceof Float64Array
    ? values
    : new Float64Array(values);
  if (data.length !== rows * columns) {
    throw new TypeError(
      `Cannot make a matrix as ${rows}×${columns} numbers must be given: ` +
        `current count is ${data.length}`,
    );
  }
  return { rows, columns, data };
}

/** The whole matrix as a block. */
export function whole({ rows, columns, data }: Matrix): Block {
  return { data, start: 0, stride: columns, rows, columns };
}

/** Rows `from` to `to` (without) of a matrix, and of these rows the columns at and after `left`. */
export function rows({ data, columns }: Matrix, from: number, to: number, left = 0): Block {
  const start = from * columns + left;
  return { data, start, stride: columns, rows: to - from, columns: columns - left };
}

/** `Aᵀ`. */
export function transpose(a: Matrix): Matrix {
  const data = new Float64Array(a.data.length);
  transposeInto(data, whole(a));
  return { rows: a.columns, columns: a.rows, data };
}

/** Writes the transpose of a block into the beginning of an array, `columns × rows`, without gaps. */
export function transposeInto(target: Float64Array, a: Block): void {
  const { data, start, stride, rows, columns } = a;
  const edge = 16; // 16 × 16 numbers of source and target, 4 KB, stay in the first cache
  for (let top = 0; top < rows; top += edge) {
    const bottom = Math.min(top + edge, rows);
    for (let left = 0; left < columns; left += edge) {
      const right = Math.min(left + edge, columns);
      for (let j = left; j < right; j++) {
        for (let i = top; i < bottom; i++) target[j * rows + i] = data[start + i * stride + j];
      }
    }
  }
}

/** `A · B`, `[m, k] · [k, n] -> [m, n]`. */
export function multiply(a: Matrix, b: Matrix): Matrix {
  if (a.columns !== b.rows) {
    throw new TypeError(
      `Cannot multiply matrices as columns of the first must be rows of the second: ` +
        `current sizes are ${a.rows}×${a.columns} and ${b.rows}×${b.columns}`,
    );
  }
  const c = matrix(a.rows, b.columns);
  addProduct(whole(c), whole(a), whole(transpose(b)), 1);
  return c;
}

const tile = new Float64Array(16);

/**
 * `C ← C + factor · A · Bᵀ`, `[m, n] ← [m, k] · [n, k]ᵀ`: rows against rows.
 *
 * Four rows of A meet four rows of B in sixteen running sums, so that eight loads serve sixteen
 * products; both are walked along contiguous rows. Of B, 64 × 256 numbers (128 KB, the second cache)
 * stay near while all of A goes by. At the lower and right edge the last row stands in for the
 * missing ones and its sums are not written.
 */
export function addProduct(c: Block, a: Block, b: Block, factor: number): void {
  const A = a.data, B = b.data, C = c.data;
  const depth = 256, breadth = 64;
  for (let from = 0; from < a.columns; from += depth) {
    const count = Math.min(depth, a.columns - from);
    for (let left = 0; left < b.rows; left += breadth) {
      const right = Math.min(left + breadth, b.rows);
      for (let i = 0; i < a.rows; i += 4) {
        const height = Math.min(4, a.rows - i);
        const a0 = a.start + i * a.stride + from;
        const a1 = height > 1 ? a0 + a.stride : a0;
        const a2 = height > 2 ? a1 + a.stride : a1;
        const a3 = height > 3 ? a2 + a.stride : a2;
        for (let j = left; j < right; j += 4) {
          const width = Math.min(4, right - j);
          const b0 = b.start + j * b.stride + from;
          const b1 = width > 1 ? b0 + b.stride : b0;
          const b2 = width > 2 ? b1 + b.stride : b1;
          const b3 = width > 3 ? b2 + b.stride : b2;
          let s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
          let s20 = 0, s21 = 0, s22 = 0, s23 = 0, s30 = 0, s31 = 0, s32 = 0, s33 = 0;
          for (let k = 0; k < count; k++) {
            const w = B[b0 + k], x = B[b1 + k], y = B[b2 + k], z = B[b3 + k];
            let v = A[a0 + k];
            s00 += v * w, s01 += v * x, s02 += v * y, s03 += v * z;
            v = A[a1 + k];
            s10 += v * w, s11 += v * x, s12 += v * y, s13 += v * z;
            v = A[a2 + k];
            s20 += v * w, s21 += v * x, s22 += v * y, s23 += v * z;
            v = A[a3 + k];
            s30 += v * w, s31 += v * x, s32 += v * y, s33 += v * z;
          }
          tile[0] = s00, tile[1] = s01, tile[2] = s02, tile[3] = s03;
          tile[4] = s10, tile[5] = s11, tile[6] = s12, tile[7] = s13;
          tile[8] = s20, tile[9] = s21, tile[10] = s22, tile[11] = s23;
          tile[12] = s30, tile[13] = s31, tile[14] = s32, tile[15] = s33;
          for (let row = 0; row < height; row++) {
            const at = c.start + (i + row) * c.stride + j;
            for (let k = 0; k < width; k++) C[at + k] += factor * tile[4 * row + k];
          }
        }
      }
    }
  }
}

/**
 * The power of two that brings the largest magnitude of a matrix near 1 (1 for zeros).
 *
 * Multiplying by it is exact, and squares of the scaled numbers neither overflow nor vanish. The
 * exponent stays within ±1022, where the scale and its reciprocal are both ordinary numbers.
 *
 * @throws {RangeError} when a number is not finite
 */
export function binaryScale({ data, columns }: Matrix<Float32Array | Float64Array>): number {
  let largest = 0;
  for (let i = 0; i < data.length; i++) {
    const size = Math.abs(data[i]);
    if (!(size < Infinity)) {
      throw new RangeError(
        `Cannot decompose a matrix as its numbers must be finite: ` +
          `current value at [${Math.floor(i / columns)}, ${i % columns}] is ${data[i]}`,
      );
    }
    if (size > largest) largest = size;
  }
  if (largest === 0) return 1;
  return 2 ** Math.max(-1022, Math.min(1022, -Math.ceil(Math.log2(largest))));
}

/** `‖A‖ = √Σ a²`, the Frobenius norm, without overflow. */
export function norm(a: Matrix<Float32Array | Float64Array>): number {
  const scale = binaryScale(a);
  let sum = 0;
  for (let i = 0; i < a.data.length; i++) sum += (a.data[i] * scale) ** 2;
  return Math.sqrt(sum) / scale;
}
