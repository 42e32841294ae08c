import { suite } from "uvu";
import * as assert from "uvu/assert";
import { matrix, multiply, norm, transpose } from "../../lib/tensor/matrix.ts";
import { difference, map, noise } from "../support/matrices.ts";

const matrices = suite("matrix()");

matrices("takes any list of numbers, row after row", () => {
  const a = matrix(2, 3, new Float32Array([1, 2, 3, 4, 5, 6]));
  assert.equal([...transpose(a).data], [1, 4, 2, 5, 3, 6]);
});

matrices("refuses a list of another length", () => {
  const refusal = /as 2×3 numbers must be given: current count is 5/;
  assert.throws(() => matrix(2, 3, [1, 2, 3, 4, 5]), refusal);
});
matrices.run();

const products = suite("multiply()");

products("is rows times columns", () => {
  const a = matrix(2, 3, [1, 2, 3, 4, 5, 6]), b = matrix(3, 2, [7, 8, 9, 10, 11, 12]);
  assert.equal([...multiply(a, b).data], [58, 64, 139, 154]);
});

for (
  const [m, k, n] of [[1, 1, 1], [4, 4, 4], [5, 3, 6], [7, 600, 2], [66, 259, 70], [3, 1, 130]]
) {
  products(`is the sum over the inner axis, ${m}×${k}·${k}×${n}`, () => {
    const a = noise(m, k, 1), b = noise(k, n, 2);
    const expected = map(matrix(m, n), (_, i, j) => {
      let sum = 0;
      for (let t = 0; t < k; t++) sum += a.data[i * k + t] * b.data[t * n + j];
      return sum;
    });
    assert.ok(difference(expected, multiply(a, b)) < 1e-14);
  });
}

products("refuses matrices that do not meet", () => {
  assert.throws(() => multiply(matrix(2, 3), matrix(2, 3)), /current sizes are 2×3 and 2×3/);
});
products.run();

const norms = suite("norm()");

norms("is the root of the sum of squares, at any magnitude", () => {
  for (const scale of [1, 2 ** -1000, 2 ** 1000, 2 ** -1060]) {
    assert.is(norm(matrix(1, 2, [3 * scale, -4 * scale])), 5 * scale);
  }
  assert.is(norm(matrix(2, 2)), 0);
});
norms.run();
