/** Rotations of neighbouring columns of a matrix, one or many. */
import type { Matrix } from "./matrix.ts";

/** Rotations kept back before they are applied: 16 bytes each, they fit the second cache. */
const POSTPONED = 8192;

/** `[c s; −s c] · [f; g] = [r; 0]`; what has lost digits to underflow is not turned. */
export function rotation(f: number, g: number): { r: number; c: number; s: number } {
  const r = Math.sqrt(f * f + g * g);
  return r < 1e-140 ? { r: f, c: 1, s: 0 } : { r, c: f / r, s: g / r };
}

/** Sweeps that wait to be applied. */
export interface Rotations {
  /** begins a sweep at a column, of so many rotations */
  sweep(column: number, length: number): void;
  /** its next rotation */
  add(cosine: number, sine: number): void;
  /** applies all that wait */
  apply(): void;
}

/**
 * Sweeps of rotations of neighbouring columns, collected and applied together.
 *
 * A sweep touches the whole matrix, which is larger than a cache; so sweeps wait until there are many,
 * and every four rows take all of them while they are near. Along a row each rotation hands one number
 * to the next; four rows side by side hide the wait for it.
 */
export function rotations({ data, rows: n, columns }: Matrix): Rotations {
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
