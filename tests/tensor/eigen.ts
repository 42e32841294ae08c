import { suite } from "uvu";
import * as assert from "uvu/assert";
import { eigen, eigenvalues } from "../../lib/tensor/eigen.ts";
import { eigenvalues32 } from "../../lib/tensor/eigen32.ts";
import { type Matrix, matrix, multiply, transpose } from "../../lib/tensor/matrix.ts";
import { qr } from "../../lib/tensor/qr.ts";
import { svd } from "../../lib/tensor/svd.ts";
import { distance, TOLERANCE } from "../support/close.ts";
import { difference, map, noise, skew } from "../support/matrices.ts";

const numbers = (count: number, value: (i: number) => number) =>
  Array.from({ length: count }, (_, i) => value(i));
const symmetric = (n: number, seed: number) => {
  const a = noise(n, n, seed);
  return map(a, (x, i, j) => x + a.data[j * n + i]);
};
const withEigenvalues = (values: readonly number[]) => {
  const { q } = qr(noise(values.length, values.length, 1));
  return multiply(map(q, (x, _, j) => x * values[j]), transpose(q));
};

const MATRICES: [name: string, a: Matrix][] = [
  ["1×1", matrix(1, 1, [-3])],
  ["2×2", matrix(2, 2, [1, 2, 2, -2])],
  ["of even size", symmetric(130, 1)],
  ["of odd size", symmetric(131, 2)],
  ["zero", matrix(20, 20)],
  ["ones", map(matrix(50, 50), () => 1)],
  ["the identity", map(matrix(70, 70), (_, i, j) => i === j ? 1 : 0)],
  ["diagonal", map(matrix(30, 30), (_, i, j) => i === j ? (i * 7) % 30 - 10 : 0)],
  ["repeated", withEigenvalues(numbers(90, (i) => i < 30 ? 3 : i < 50 ? 2 : -1))],
  ["down to 1e-20", withEigenvalues(numbers(90, (i) => 10 ** (-i / 4.5)))],
  ["of 1e-200", map(symmetric(40, 1), (x) => x * 1e-200)],
  ["of 1e200", map(symmetric(40, 1), (x) => x * 1e200)],
];

const decomposition = suite("eigen()");

for (const [name, a] of MATRICES) {
  decomposition(
    `is orthonormal vectors and values in order, those of eigenvalues(): ${name}`,
    () => {
      const { values, vectors } = eigen(a);
      const built = multiply(map(vectors, (x, _, j) => x * values[j]), transpose(vectors));
      assert.ok(difference(a, built) < 1e-13);
      assert.ok(skew(vectors) < TOLERANCE.double);
      assert.ok(values.every((value, i) => i === 0 || value <= values[i - 1]));
      assert.ok(distance(eigenvalues(a), values) < 1e-13);
    },
  );
}

for (const [name, a] of MATRICES.filter(([name]) => name !== "of 1e200")) {
  decomposition(`has the values of eigenvalues32() but for rounding to float32: ${name}`, () => {
    const single = map(a, Math.fround), largest = Math.max(...eigenvalues(single).map(Math.abs));
    const found = eigenvalues32(Float32Array.from(single.data), a.rows);
    eigenvalues(single).forEach((value, i) => {
      assert.ok(Math.abs(found[i] - value) <= 8 * 2 ** -24 * largest, `${i}: ${found[i]} ${value}`);
    });
  });
}

decomposition("of the second differences of n numbers has 2 − 2 cos(kπ / (n + 1))", () => {
  const n = 150, a = map(matrix(n, n), (_, i, j) => i === j ? 2 : Math.abs(i - j) === 1 ? -1 : 0);
  const expected = numbers(n, (k) => 2 - 2 * Math.cos((n - k) * Math.PI / (n + 1)));
  assert.ok(distance(eigenvalues(a), expected) < 1e-14);
});

decomposition("of AᵀA has the squares of A's singular values", () => {
  const a = noise(80, 60, 1), { s } = svd(a);
  assert.ok(distance(eigenvalues(multiply(transpose(a), a)), s.map((x) => x * x)) < 1e-14);
});

decomposition("reads below the diagonal and on it", () => {
  const a = symmetric(9, 1), half = map(a, (x, i, j) => j > i ? 1e9 : x);
  assert.equal(eigen(half), eigen(a));
});

decomposition("refuses numbers that are not finite", () => {
  assert.throws(() => eigenvalues(matrix(2, 2, [1, NaN, NaN, 1])), /must be finite/);
});

decomposition.run();
