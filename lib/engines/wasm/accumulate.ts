/** Sums of products over many rows: what every gradient of weights is. */
import type * as tf from "@tensorflow/tfjs";
import { size } from "../../tensor/shape.ts";
import { type Backend, floats } from "./compose.ts";
import { COLUMNS, ROWS, vectors } from "./vectors.ts";

/** Rows summed at a time: those of both matrices then stay in the cache while every block reads them. */
const DEPTH = 128;

/** Rows of the two matrices that follow one another: where they begin, in floats, and how many they are. */
export interface RowRun {
  a: number;
  b: number;
  count: number;
}

/** C[m, n] = Σ over rows r of A[r·step + offsets[m]] · B[r·pitch + n], over some runs of rows. */
export interface Sum {
  a: tf.TensorInfo;
  /** where each row of C reads A, in floats from the beginning of a row */
  offsets: readonly number[];
  /** floats between two rows of A, and of B */
  step: number;
  b: tf.TensorInfo;
  pitch: number;
  runs: readonly RowRun[];
  /** how many columns of B there are; the pitch must hold a multiple of 8 */
  columns: number;
}

/**
 * How far apart rows had better lie of which so many blocks read each. Wide ones lie a little further
 * apart, or those of a sum would all fall on the same few lines of the cache.
 */
export function spread(width: number, blocks: number): number {
  return blocks >= 16 && width >= 64 && width % 16 === 0 ? width + COLUMNS : width;
}

/** The same for the right matrix, of so many columns, for a left one of so many rows. */
export function pitchOf(columns: number, rows: number): number {
  return spread(Math.ceil(columns / COLUMNS) * COLUMNS, rows / ROWS);
}

/** The sum, `[offsets.length, columns]` in the given shape. */
export function accumulate(
  backend: Backend,
  { a, offsets, step, b, pitch, runs, columns }: Sum,
  shape: number[],
): tf.TensorInfo {
  const high = Math.ceil(offsets.length / ROWS), wide = Math.ceil(columns / COLUMNS);
  const blocks = backend.makeOutput([wide, high, ROWS, COLUMNS], "float32");
  const result = backend.makeOutput(shape, "float32");
  const from = backend.getMemoryOffset(a.dataId), to = backend.getMemoryOffset(blocks.dataId);
  const right = backend.getMemoryOffset(b.dataId);
  floats(backend, blocks).fill(0);
  // the rows that fill up the last block read what its last one reads, and are left out in the end
  const last = offsets[offsets.length - 1];
  const at = Int32Array.from({ length: high * ROWS }, (_, row) => 4 * (offsets[row] ?? last));
  const { product } = vectors(backend), stride = 4 * step, lines = 4 * pitch;
  for (const run of runs) {
    for (let begin = 0; begin < run.count; begin += DEPTH) {
      const count = Math.min(DEPTH, run.count - begin);
      const A = from + 4 * (run.a + begin * step), B = right + 4 * (run.b + begin * pitch);
      let C = to;
      for (let column = 0; column < wide; column++) {
        const b = B + 4 * COLUMNS * column;
        for (let row = 0; row < at.length; row += ROWS, C += 4 * ROWS * COLUMNS) {
          const a0 = A + at[row], a1 = A + at[row + 1], a2 = A + at[row + 2], a3 = A + at[row + 3];
          product(a0, a1, a2, a3, stride, b, lines, count, C);
        }
      }
    }
  }
  untile(floats(backend, blocks), floats(backend, result), high, columns);
  backend.disposeData(blocks.dataId);
  return result;
}

/** Blocks of 4 × 8, those of a column one after another, as a plain matrix. */
function untile(blocks: Float32Array, matrix: Float32Array, high: number, columns: number): void {
  for (let at = 0, row = 0; at < matrix.length; row++) {
    for (let column = 0; column < columns; column++, at++) {
      const block = Math.floor(column / COLUMNS) * high + Math.floor(row / ROWS);
      matrix[at] = blocks[(block * ROWS + row % ROWS) * COLUMNS + column % COLUMNS];
    }
  }
}

/** Images with zeros around them, `[N, H, W, C]` → `[N, high, wide, channels]`, at `[n, top, left, 0]`. */
export function frame(
  backend: Backend,
  x: tf.TensorInfo,
  [high, wide, channels]: readonly [number, number, number],
  [top, left]: readonly [number, number] = [0, 0],
): tf.TensorInfo {
  const [batch, height, width, depth] = x.shape;
  const framed = backend.makeOutput([batch, high, wide, channels], "float32");
  const from = floats(backend, x), to = floats(backend, framed).fill(0);
  const pixels = channels === depth ? 1 : width, length = size([width, depth]) / pixels;
  let at = 0;
  for (let n = 0; n < batch; n++) {
    for (let p = 0; p < height; p++) {
      const row = ((n * high + top + p) * wide + left) * channels;
      for (let q = 0; q < pixels; q++, at += length) {
        to.set(from.subarray(at, at + length), row + q * channels);
      }
    }
  }
  return framed;
}
