import * as tf from "@tensorflow/tfjs";
import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  factorPair,
  kronecker,
  nearestKronecker,
  type Pair,
  powerOfTwoPair,
} from "../../lib/tensor/kronecker.ts";
import { type Matrix, matrix, multiply, norm } from "../../lib/tensor/matrix.ts";
import { close, distance, leakless, TOLERANCE } from "../support/close.ts";
import { golden, hasGolden } from "../support/fixtures.ts";
import { values } from "../support/geometries.ts";
import { difference, noise } from "../support/matrices.ts";

const tensor = (shape: readonly number[], seed: number) =>
  tf.tensor(values(shape, seed), [...shape]);

const pairs = suite("factorPair()");

pairs("is the most even split, or the nearest below a factor", () => {
  assert.equal([360, 127, 16, 1].map((n) => factorPair(n)), [[18, 20], [1, 127], [4, 4], [1, 1]]);
  assert.equal([factorPair(16, 8), factorPair(250, 8), factorPair(320, 32)], [[2, 8], [5, 50], [
    10,
    32,
  ]]);
});

pairs("refuses what is no dimension", () => {
  for (const dimension of [0, -4, 2.5]) {
    const refusal = new RegExp(`current dimension is ${dimension}`);
    assert.throws(() => factorPair(dimension), refusal);
    assert.throws(() => powerOfTwoPair(dimension), refusal);
  }
});

const blocks = suite("powerOfTwoPair()");

blocks("is an even block and how many of it, a power of two", () => {
  assert.equal([powerOfTwoPair(320, 10), powerOfTwoPair(768, 32), powerOfTwoPair(24)], [
    [10, 32],
    [24, 32],
    [24, 1],
  ]);
  assert.throws(() => powerOfTwoPair(320, 8), /Cannot split 320 .* current largest block is 8/);
});

if (hasGolden) {
  type Table = Record<string, Record<string, [number | null, number]>>;
  const tables: Record<string, Table> = JSON.parse(
    readFileSync(golden("factorization.json"), "utf8"),
  );
  const agree = (table: Table, found: (dimension: number, factor: number) => Pair | null) => {
    for (const [factor, dimensions] of Object.entries(table)) {
      for (const [dimension, [first, second]] of Object.entries(dimensions)) {
        const expected = first === null ? null : [first, second];
        assert.equal(found(+dimension, +factor), expected, `${dimension} by ${factor}`);
      }
    }
  };
  pairs("splits as LyCORIS does", () => agree(tables.factorization, factorPair));
  blocks("splits as LyCORIS does", () =>
    agree(tables.power2factorization, (dimension, factor) => {
      try {
        return powerOfTwoPair(dimension, factor);
      } catch {
        return null;
      }
    }));
}
pairs.run();
blocks.run();

const products = suite("kronecker()");
leakless(products);

const SHAPES: [a: number[], b: number[]][] = [
  [[2, 3], [4, 5]],
  [[1, 1], [3, 2]],
  [[3, 2], [1, 1]],
  [[2, 2], [5, 3, 4]],
  [[2, 3], [3, 3, 2, 2]],
  [[3, 2], [2, 1, 2, 3, 2]],
];

for (const [a, b] of SHAPES) {
  products(
    `is a[i, j] · b[…, x, y] at [i·m + x, j·n + y]: ${a.join("×")} and ${b.join("×")}`,
    () => {
      const [p, q] = a, [m, n] = b.slice(-2), one = tensor(a, 1), two = tensor(b, 2);
      const product = kronecker(one, two);
      assert.equal(product.shape, [...b.slice(0, -2), p * m, q * n]);
      const all = tf.reshape(product, [-1, p * m, q * n]).arraySync() as number[][][];
      const left = one.arraySync() as number[][];
      const right = tf.reshape(two, [-1, m, n]).arraySync() as number[][][];
      all.forEach((plane, k) =>
        plane.forEach((row, i) =>
          row.forEach((value, j) => {
            const [x, y] = [i % m, j % n];
            assert.is(value, Math.fround(left[(i - x) / m][(j - y) / n] * right[k][x][y]));
          })
        )
      );
    },
  );
}

products(
  "is linear in both: the gradient of ⟨g, a ⊗ b⟩, with another a, gives ⟨g, a ⊗ b⟩ of that",
  () => {
    const a = tensor([2, 3], 1), b = tensor([3, 3, 4, 2], 2), g = tensor([3, 3, 8, 6], 3);
    const f = (a: tf.Tensor, b: tf.Tensor): tf.Scalar => tf.sum(tf.mul(g, kronecker(a, b)));
    const [da, db] = tf.grads(f)([a, b]);
    const [a2, b2] = [tensor([2, 3], 4), tensor([3, 3, 4, 2], 5)];
    close(tf.sum(tf.mul(da, a2)), f(a2, b), "gradient");
    close(tf.sum(tf.mul(db, b2)), f(a, b2), "gradient");
  },
);

products("leaves no tensor but the product", () => {
  const a = tensor([2, 3], 1), b = tensor([4, 5], 2), before = tf.memory().numTensors;
  kronecker(a, b);
  assert.is(tf.memory().numTensors, before + 1);
});
products.run();

/** a ⊗ b in float64. */
function product(a: Matrix, b: Matrix): Matrix {
  const left = (i: number, j: number) =>
    a.data[Math.floor(i / b.rows) * a.columns + Math.floor(j / b.columns)];
  const right = (i: number, j: number) => b.data[(i % b.rows) * b.columns + j % b.columns];
  const [rows, columns] = [a.rows * b.rows, a.columns * b.columns];
  const data = Float64Array.from({ length: rows * columns }, (_, at) => {
    const i = Math.floor(at / columns), j = at % columns;
    return left(i, j) * right(i, j);
  });
  return matrix(rows, columns, data);
}

const nearest = suite("nearestKronecker()");
leakless(nearest);

nearest("finds the factors of a product", () => {
  const a = noise(3, 4, 1), b = noise(5, 2, 2), w = product(a, b);
  const found = nearestKronecker({ shape: [w.rows, w.columns], data: w.data }, [3, 4]);
  assert.ok(found.error < 1e-14);
  assert.ok(difference(w, product(found.a, matrix(5, 2, found.b.data))) < 1e-14);
});

nearest("finds the factors of a kernel, of equal norms", () => {
  const a = tensor([2, 3], 1), b = tensor([3, 3, 4, 2], 2), kernel = kronecker(a, b);
  const found = nearestKronecker({ shape: kernel.shape, data: kernel.dataSync() }, [2, 3]);
  assert.equal(found.b.shape, [3, 3, 4, 2]);
  assert.ok(found.error < 1e-7);
  const a2 = tf.tensor(new Float32Array(found.a.data), [2, 3]);
  const b2 = tf.tensor(new Float32Array(found.b.data), [3, 3, 4, 2]);
  close(kronecker(a2, b2), kernel);
  assert.ok(Math.abs(norm(found.a) / norm(matrix(1, 72, found.b.data)) - 1) < 1e-14);
});

nearest("has the weights of orthogonal terms as its spectrum", () => {
  // Pauli matrices over √2 are orthonormal: I ⊗ I · 3 + X ⊗ X · 2 + Z ⊗ Z
  const unit = (data: number[]) => matrix(2, 2, data.map((x) => x / Math.SQRT2));
  const terms = [unit([1, 0, 0, 1]), unit([0, 1, 1, 0]), unit([1, 0, 0, -1])].map((x) =>
    product(x, x)
  );
  const data = terms[0].data.map((x, i) => 3 * x + 2 * terms[1].data[i] + terms[2].data[i]);
  const { spectrum, error } = nearestKronecker({ shape: [4, 4], data }, [2, 2]);
  assert.ok(distance(spectrum, [3, 2, 1, 0]) < 1e-15);
  assert.ok(Math.abs(error - Math.sqrt(5 / 14)) < 1e-15);
});

nearest("says the error of a ⊗ b", () => {
  const w = noise(12, 10, 1);
  const { a, b, error } = nearestKronecker({ shape: [12, 10], data: w.data }, [3, 5]);
  assert.ok(Math.abs(difference(w, product(a, matrix(4, 2, b.data))) - error) < TOLERANCE.double);
});

nearest("is the best rank-1 matrix when b is a row, as then a ⊗ b = a · b", () => {
  const w = multiply(noise(6, 1, 1), noise(1, 8, 2));
  assert.ok(nearestKronecker({ shape: [6, 8], data: w.data }, [6, 1]).error < 1e-14);
});

nearest("refuses blocks that do not divide the kernel", () => {
  assert.throws(
    () => nearestKronecker({ shape: [3, 3, 6, 4], data: values([3, 3, 6, 4], 1) }, [4, 2]),
    /Cannot split a kernel into 4×2 blocks .* current shape is 3×3×6×4/,
  );
});
nearest.run();
