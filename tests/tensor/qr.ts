import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Matrix, matrix, multiply } from "../../lib/tensor/matrix.ts";
import { qr } from "../../lib/tensor/qr.ts";
import { difference, map, noise, skew } from "../support/matrices.ts";
import { TOLERANCE } from "../support/close.ts";

const MATRICES: [name: string, a: Matrix][] = [
  ["1×1", noise(1, 1, 1)],
  ["a row", noise(1, 9, 1)],
  ["a column", noise(9, 1, 1)],
  ["tall, one block", noise(50, 20, 1)],
  ["tall, several blocks", noise(500, 150, 1)],
  ["square", noise(131, 131, 1)],
  ["wide", noise(70, 200, 1)],
  ["rank 3", multiply(noise(90, 3, 1), noise(3, 80, 2))],
  ["with columns of zeros", map(noise(90, 80, 1), (x, _, j) => j % 3 === 0 ? 0 : x)],
  ["zero", matrix(30, 20)],
  ["of 1e-200", map(noise(40, 30, 1), (x) => x * 1e-200)],
  ["of 1e200", map(noise(40, 30, 1), (x) => x * 1e200)],
  ["with columns from 1 to 1e-300", map(noise(90, 60, 1), (x, _, j) => x * 10 ** (-5 * j))],
];

const decomposition = suite("qr()");

for (const [name, a] of MATRICES) {
  decomposition(`is Q with orthonormal columns times a triangle: ${name}`, () => {
    const { q, r } = qr(a), k = Math.min(a.rows, a.columns);
    assert.equal([q.rows, q.columns, r.rows, r.columns], [a.rows, k, k, a.columns]);
    assert.ok(skew(q) < TOLERANCE.double);
    assert.ok(difference(a, multiply(q, r)) < 1e-13);
    for (let i = 0; i < k; i++) {
      for (let j = 0; j < i && j < a.columns; j++) assert.is(r.data[i * a.columns + j], 0);
    }
  });
}

decomposition("keeps its argument", () => {
  const a = noise(6, 4, 1), before = [...a.data];
  qr(a);
  assert.equal([...a.data], before);
});

decomposition("refuses what is not finite", () => {
  assert.throws(
    () => qr(matrix(2, 2, [1, 2, 3, Infinity])),
    /Cannot decompose a matrix as its numbers must be finite: current value at \[1, 1\] is Infinity/,
  );
});
decomposition.run();
