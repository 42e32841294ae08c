/**
 * Eigenvalues of a symmetric matrix in float32, four numbers at a time: a quarter of the time of `eigen.ts`, for what is no
 * more precise than float32 itself.
 *
 * The same reduction to tridiagonal form. The matrix lies in memory of WebAssembly, where one routine walks over its
 * triangle once a step; what is as long as a column is float64.
 */
import {
  add,
  type Code,
  integer,
  less,
  load,
  module,
  type Multiply,
  repeat,
  type Routine,
  splat,
  store,
  when,
  zero,
} from "./assemble.ts";
import { descending, diagonalize } from "./eigen.ts";
import { binaryScale } from "./matrix.ts";
import { reflector } from "./qr.ts";

/** Numbers of a vector, and bytes of one and of a number. */
const LANES = 4, VECTOR = 16, FLOAT = 4;
/** Bytes of a page of WebAssembly's memory. */
const PAGE = 65536;

/**
 * All columns from one on, `A ← A − v wᵀ − w vᵀ` and `y ← A z`, of the triangle below the diagonal and of the blocks of
 * 4 × 4 on it, which are whole. Two rows at once, so that v, w, z and y are read once for both.
 *
 * Addresses are those of what belongs to the first column: of A's row there, of z and of y, and of −v and −w, beside which
 * `far` bytes on v and w are. What rows have of y for themselves lies four numbers apart, by lanes, at `own`.
 */
const walk = (multiply: Multiply): Routine => ({
  parameters: ["row", "pitch", "v", "w", "z", "y", "own", "far", "width"],
  integers: ["i", "j", "block", "one", "two"],
  vectors: ["v1", "w1", "z1", "v2", "w2", "z2", "s1", "s2", "x1", "x2"],
  body({ get, set }) {
    const step = (name: string, by: Code) => set(name, add(get(name), by));
    const at = (name: string, place: string) => add(get(name), get(place));
    const beside = (name: string) => add(at(name, "far"), get("j"));
    const changed = (row: string, n: 1 | 2) =>
      set(
        `x${n}`,
        multiply(
          get(`w${n}`),
          load(beside("v")),
          multiply(get(`v${n}`), load(beside("w")), load(at(row, "j"))),
        ),
      );
    const both = [
      changed("one", 1),
      changed("two", 2),
      store(at("one", "j"), get("x1")),
      store(at("two", "j"), get("x2")),
      set("s1", multiply(get("x1"), load(at("z", "j")), get("s1"))),
      set("s2", multiply(get("x2"), load(at("z", "j")), get("s2"))),
    ];
    const mirrored = store(
      at("y", "j"),
      multiply(get("x2"), get("z2"), multiply(get("x1"), get("z1"), load(at("y", "j")))),
    );
    const pair = [
      ...["v", "w", "z"].flatMap((name) => [
        set(`${name}1`, splat(at(name, "i"))),
        set(`${name}2`, splat(add(at(name, "i"), integer(FLOAT)))),
      ]),
      set("one", get("row")),
      set("two", at("row", "pitch")),
      set("s1", zero),
      set("s2", zero),
      set("j", integer(0)),
      when(less(get("j"), get("block")), [
        repeat([...both, mirrored, step("j", integer(VECTOR))], less(get("j"), get("block"))),
      ]),
      ...both, // the block on the diagonal
      store(get("own"), get("s1")),
      store(get("own"), get("s2"), VECTOR),
      step("own", integer(2 * VECTOR)),
      step("i", integer(2 * FLOAT)),
      set("row", add(get("two"), get("pitch"))),
    ];
    return repeat([
      set("block", get("i")),
      pair.flat(),
      pair.flat(),
    ], less(get("i"), get("width")));
  },
});

let compiled: WebAssembly.Module | undefined;

/** The routine over a memory of its own. */
function routine(memory: WebAssembly.Memory): (...parameters: number[]) => void {
  compiled ??= module((multiply) => ({ walk: walk(multiply) }));
  const { exports } = new WebAssembly.Instance(compiled, { env: { memory } });
  return exports.walk as (...parameters: number[]) => void;
}

/**
 * The eigenvalues of a symmetric matrix, descending.
 *
 * Every error is a few ε of float32 of the largest |λ|.
 *
 * @param a n×n numbers, row after row; read below the diagonal and on it
 * @throws {RangeError} when a number of A is not finite
 */
export function eigenvalues32(a: Float32Array, n: number): Float64Array {
  const scale = binaryScale({ rows: n, columns: n, data: a });
  const wide = Math.ceil(n / LANES) * LANES;
  const bytes = FLOAT * wide * (wide + 6 + LANES); // A, six columns, and a column of vectors
  const memory = new WebAssembly.Memory({ initial: Math.ceil(bytes / PAGE) });
  let free = 0;
  const room = (length: number) => {
    const array = new Float32Array(memory.buffer, free, length);
    free += array.byteLength;
    return array;
  };
  const A = room(wide * wide), own = room(LANES * wide);
  const [v, w, minusV, minusW, z, y] = Array.from({ length: 6 }, () => room(wide));
  const run = routine(memory), pitch = FLOAT * wide, far = v.byteOffset - minusV.byteOffset;
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) A[i * wide + j] = a[i * n + j] * scale;
    for (let j = i - i % LANES; j < i; j++) A[j * wide + i] = A[i * wide + j];
  }

  const diagonal = new Float64Array(n), beside = new Float64Array(Math.max(0, n - 1));
  const column = new Float64Array(n), next = new Float64Array(n);
  for (let k = 0; k < n; k++) {
    diagonal[k] = A[k * wide + k] - 2 * v[k] * w[k];
    if (k === n - 1) break;
    for (let i = k + 1; i < n; i++) column[i] = A[i * wide + k] - v[i] * w[k] - w[i] * v[k];
    beside[k] = reflector(column, k + 1, n);
    z.set(column.fill(0, 0, k + 1));

    const from = k + 1 - (k + 1) % LANES, row = A.byteOffset + from * pitch + FLOAT * from;
    const [atV, atW, atZ, atY] = [minusV, minusW, z, y].map((x) => x.byteOffset + FLOAT * from);
    y.fill(0);
    run(row, pitch, atV, atW, atZ, atY, own.byteOffset, far, FLOAT * (wide - from));
    let along = 0;
    for (let i = k + 1; i < n; i++) {
      const lanes = LANES * (i - from);
      next[i] = y[i] + own[lanes] + own[lanes + 1] + own[lanes + 2] + own[lanes + 3];
      along += next[i] * z[i];
    }
    v.fill(0), w.fill(0), minusV.fill(0), minusW.fill(0);
    for (let i = k + 1; i < n; i++) {
      v[i] = z[i], minusV[i] = -z[i];
      w[i] = next[i] - along / 2 * z[i], minusW[i] = -w[i];
    }
  }
  diagonalize(diagonal, beside);
  return Float64Array.from(descending(diagonal), (i) => diagonal[i] / scale);
}
