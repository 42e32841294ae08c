import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Matrix, matrix, multiply, norm, transpose } from "../../lib/tensor/matrix.ts";
import { lost, randomizedSvd, svd } from "../../lib/tensor/svd.ts";
import { distance, TOLERANCE } from "../support/close.ts";
import { difference, map, noise, product, skew, withSpectrum } from "../support/matrices.ts";

const numbers = (count: number, value: (i: number) => number) =>
  Array.from({ length: count }, (_, i) => value(i));

const MATRICES: [name: string, a: Matrix][] = [
  ["1×1", matrix(1, 1, [-3])],
  ["a row", noise(1, 50, 1)],
  ["a column", noise(50, 1, 1)],
  ["square", noise(131, 131, 1)],
  ["tall", noise(1800, 200, 1)],
  ["wide", noise(200, 1800, 1)],
  ["zero", matrix(20, 30)],
  ["ones", map(matrix(60, 50), () => 1)],
  ["rank 5", multiply(noise(300, 5, 1), noise(5, 200, 2))],
  ["a zero row and a zero column", map(noise(50, 50, 1), (x, i, j) => i === 23 || j === 7 ? 0 : x)],
  ["the identity", map(matrix(70, 70), (_, i, j) => i === j ? 1 : 0)],
  ["a shift", map(matrix(60, 60), (_, i, j) => i + 1 === j ? 1 : 0)],
  [
    "repeated singular values",
    withSpectrum(90, 70, numbers(70, (i) => i < 20 ? 3 : i < 50 ? 2 : 1)),
  ],
  ["singular values down to 1e-20", withSpectrum(120, 90, numbers(90, (i) => 10 ** (-i / 4.5)))],
  ["rows from 1e-20 up", map(noise(90, 90, 1), (x, i) => x * 10 ** ((i - 89) / 4.5))],
  ["columns from 1 to 1e-300", map(noise(90, 60, 1), (x, _, j) => x * 10 ** (-5 * j))],
  ["of 1e-200", map(noise(40, 60, 1), (x) => x * 1e-200)],
  ["of 1e200", map(noise(40, 60, 1), (x) => x * 1e200)],
];

const decomposition = suite("svd()");

for (const [name, a] of MATRICES) {
  decomposition(`is orthonormal vectors and values in order: ${name}`, () => {
    const found = svd(a), k = Math.min(a.rows, a.columns);
    assert.equal([found.u.columns, found.s.length, found.v.columns], [k, k, k]);
    assert.ok(difference(a, product(found)) < 1e-13);
    assert.ok(skew(found.u) < TOLERANCE.double && skew(found.v) < TOLERANCE.double);
    assert.ok(found.s.every((s, i) => s >= 0 && (i === 0 || s <= found.s[i - 1])));
  });
}

decomposition("has LAPACK's singular values", () => {
  const rows = map(matrix(6, 4), (_, i, j) => (7 * i * i + 3 * j + 5 * i * j) % 11 - 5);
  const hilbert = map(matrix(5, 5), (_, i, j) => 1 / (i + j + 1));
  const lapack: [Matrix, number[]][] = [
    [rows, [12.142842927689612, 9.064297460354519, 2.8965284710613513, 0]],
    [hilbert, [
      1.567050691098231,
      0.2085342186110134,
      0.011407491623419804,
      0.00030589804015118606,
      3.287928772171693e-6,
    ]],
  ];
  for (const [a, expected] of lapack) assert.ok(distance(svd(a).s, expected) < 1e-15);
});

decomposition("has s_k = 2 cos(kπ / (2n + 1)) for differences of neighbours", () => {
  const n = 150, a = map(matrix(n, n), (_, i, j) => i === j ? 1 : i + 1 === j ? -1 : 0);
  const expected = numbers(n, (k) => 2 * Math.cos((k + 1) * Math.PI / (2 * n + 1)));
  assert.ok(distance(svd(a).s, expected) < 1e-14);
});

decomposition("of A · 2ᵏ has the same vectors, and values · 2ᵏ", () => {
  const a = noise(12, 9, 1), { u, s, v } = svd(a);
  for (const k of [-900, -7, 900]) {
    const scaled = svd(map(a, (x) => x * 2 ** k));
    assert.equal(scaled, { ...scaled, u, s: s.map((x) => x * 2 ** k), v });
  }
});

decomposition("of Aᵀ has the values of A", () => {
  const a = noise(80, 120, 1);
  assert.ok(distance(svd(transpose(a)).s, svd(a).s) < 1e-14);
});

decomposition("cut at a rank loses what lost() says, the least possible", () => {
  const s = numbers(30, (i) => 1 / (1 + i)), a = withSpectrum(60, 30, s);
  const { spectrum, ...found } = svd(a, { rank: 4 });
  const least = Math.hypot(...s.slice(4)) / Math.hypot(...s);
  assert.equal([found.u.columns, found.s.length, found.v.columns], [4, 4, 4]);
  assert.ok(distance(spectrum, s) < 1e-14);
  assert.ok(Math.abs(lost(spectrum, 4) - least) < 1e-14);
  assert.ok(Math.abs(difference(a, product(found)) - least) < 1e-14);
});

decomposition(
  "cut at a tolerance keeps the values above that share of the largest, at least one",
  () => {
    const a = withSpectrum(20, 10, [8, 5, 1, 0.5, 1e-9]);
    assert.is(svd(a, { tolerance: 0.1 }).s.length, 3);
    assert.is(svd(a, { tolerance: 0.1, rank: 2 }).s.length, 2);
    assert.is(svd(a, { tolerance: 2 }).s.length, 1);
  },
);

decomposition("reads float32", () => {
  const data = new Float32Array(noise(15, 10, 1).data);
  assert.equal(svd({ rows: 15, columns: 10, data }), svd(matrix(15, 10, data)));
});

decomposition("keeps its argument", () => {
  const a = noise(6, 9, 1), before = [...a.data];
  svd(a);
  assert.equal([...a.data], before);
});

decomposition("refuses what is not finite, and ranks that are not counts", () => {
  const refused = (a: Matrix, rank: number, message: RegExp) => {
    assert.throws(() => svd(a, { rank }), message);
    assert.throws(() => randomizedSvd(a, rank), message);
  };
  refused(matrix(2, 2, [1, NaN, 3, 4]), 1, /must be finite: current value at \[0, 1\] is NaN/);
  refused(matrix(2, 2, [1, 2, -Infinity, 4]), 1, /current value at \[1, 0\] is -Infinity/);
  for (const rank of [0, -1, 1.5, NaN]) {
    refused(matrix(2, 2), rank, new RegExp(`positive integer: current rank is ${rank}`));
  }
});
decomposition.run();

const randomized = suite("randomizedSvd()");

randomized("is the SVD of a matrix of low rank", () => {
  const a = multiply(noise(300, 5, 1), noise(5, 200, 2));
  const found = randomizedSvd(a, 5), exact = svd(a, { rank: 5 });
  assert.ok(distance(found.s, exact.s) < 1e-13);
  assert.ok(difference(a, product(found)) < 1e-13 && found.residual < 1e-13);
  assert.ok(skew(found.u) < TOLERANCE.double && skew(found.v) < TOLERANCE.double);
});

for (const [rows, columns] of [[200, 500], [500, 200]]) {
  randomized(`says its residual, near the least possible: ${rows}×${columns}`, () => {
    const a = withSpectrum(rows, columns, numbers(200, (i) => 0.9 ** i));
    const found = randomizedSvd(a, 10), least = lost(svd(a).spectrum, 10);
    assert.ok(Math.abs(difference(a, product(found)) - found.residual) < 1e-14);
    assert.ok(found.residual >= least && found.residual < 1.001 * least);
  });
}

randomized("says residuals that 1 − Σs²/‖A‖² would lose to rounding", () => {
  const a = withSpectrum(150, 100, [1, 1, 1e-12]);
  assert.ok(Math.abs(randomizedSvd(a, 2).residual / (1e-12 / Math.SQRT2) - 1) < 1e-2);
});

randomized("takes more vectors or rounds for a smaller residual", () => {
  const a = noise(200, 300, 1);
  const residual = (oversample: number, iterations: number) =>
    randomizedSvd(a, 8, { oversample, iterations }).residual;
  assert.ok(residual(8, 2) < residual(8, 0) && residual(40, 0) < residual(8, 0));
});

randomized("gives the same numbers for a seed, others for another", () => {
  const a = noise(80, 90, 1), search = { iterations: 0, seed: 3 };
  assert.equal(randomizedSvd(a, 4, search), randomizedSvd(a, 4, search));
  assert.is.not(
    randomizedSvd(a, 4, search).residual,
    randomizedSvd(a, 4, { iterations: 0 }).residual,
  );
});

randomized("works at every size and magnitude", () => {
  assert.equal(randomizedSvd(matrix(7, 5), 3).residual, 0);
  assert.ok(skew(randomizedSvd(matrix(7, 5), 3).u) < TOLERANCE.double);
  assert.ok(randomizedSvd(matrix(1, 1, [3]), 4).residual < 1e-15);
  for (const scale of [2 ** -900, 2 ** 900]) {
    const a = noise(90, 70, 1), { s } = randomizedSvd(map(a, (x) => x * scale), 5);
    assert.equal(s, randomizedSvd(a, 5).s.map((x) => x * scale));
  }
});

randomized("reads float32", () => {
  const data = new Float32Array(noise(150, 100, 1).data);
  const a = matrix(150, 100, data);
  assert.equal(randomizedSvd({ rows: 150, columns: 100, data }, 6), randomizedSvd(a, 6));
  assert.ok(norm({ rows: 150, columns: 100, data }) === norm(a));
});
randomized.run();
