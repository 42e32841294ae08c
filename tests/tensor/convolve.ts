import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { convolve, inputGradient, kernelGradient } from "../../lib/tensor/convolve.ts";
import { extent, type Geometry } from "../../lib/tensor/geometry.ts";
import { outputs, size, space } from "../../lib/tensor/shape.ts";
import { fold, kernelMatrix, matrixKernel, unfold } from "../../lib/tensor/unfold.ts";
import { close, leakless } from "../support/close.ts";
import { type Place, PLACES, values } from "../support/geometries.ts";

const tensor = (shape: readonly number[], seed: number) =>
  tf.tensor(values(shape, seed), [...shape]);

/** Every index of a shape, last axis fastest. */
function* indices(shape: readonly number[]): Generator<number[]> {
  if (shape.length === 0) return yield [];
  const [length, ...rest] = shape;
  for (let i = 0; i < length; i++) for (const tail of indices(rest)) yield [i, ...tail];
}

/** The convolution as its definition reads, number by number. */
function byHand({ kernel, x: given, geometry }: Place): tf.Tensor {
  const I = kernel[kernel.length - 2], O = outputs(kernel);
  const x = space(kernel).length > 0 ? given : [size(given) / I, I];
  const [X, W] = [tf.buffer([...x], "float32", values(x, 1)), values(kernel, 2)];
  const w = tf.buffer([...kernel], "float32", W);
  const { strides, padding, dilations, groups, output } = extent(kernel, x.slice(1, -1), geometry);
  const y = tf.buffer([x[0], ...output, O], "float32");
  for (const [n, ...rest] of indices([x[0], ...output, O])) {
    const o = rest[rest.length - 1], p = rest.slice(0, -1), group = Math.floor(o / (O / groups));
    let sum = 0;
    for (const tap of indices(space(kernel))) {
      const at = tap.map((t, axis) =>
        p[axis] * strides[axis] + t * dilations[axis] - padding[axis][0]
      );
      if (at.some((place, axis) => place < 0 || place >= x[axis + 1])) continue;
      for (let i = 0; i < I; i++) {
        sum += X.get(n, ...at, group * I + i) as number * (w.get(...tap, i, o) as number);
      }
    }
    y.set(sum, n, ...rest);
  }
  return y.toTensor();
}

/** unfold(x) · W, differentiated by TensorFlow.js. */
function byMatrix(x: tf.Tensor, W: tf.Tensor, geometry: Geometry): tf.Tensor {
  const { groups, output } = extent(W.shape, x.shape.slice(1, -1), geometry);
  const y = tf.matMul(unfold(x, W.shape, geometry), kernelMatrix(W, groups));
  const rows = groups === 1 ? y : tf.transpose(y, [1, 0, 2]);
  return tf.reshape(rows, [x.shape[0], ...output, outputs(W.shape)]);
}

const sums = suite("convolve()");
leakless(sums);
for (const place of PLACES) {
  const { name, kernel, x, geometry } = place;
  sums(`${name} is its definition`, () => {
    const y = convolve(tensor(x, 1), tensor(kernel, 2), geometry);
    close(y, tf.reshape(byHand(place), y.shape));
  });

  if (space(kernel).length === 0) continue;
  sums(`${name} has the gradients of unfold(x) · W`, () => {
    const inputs = [tensor(x, 1), tensor(kernel, 2)];
    const dy = tensor(convolve(inputs[0], inputs[1], geometry).shape, 3);
    const gradients = tf.grads((x, w) => convolve(x, w, geometry))(inputs, dy);
    const expected = tf.grads((x, w) => byMatrix(x, w, geometry))(inputs, dy);
    close(gradients[0], expected[0], "gradient", "dx");
    close(gradients[1], expected[1], "gradient", "dW");
    close(inputGradient(dy, inputs[1], x, geometry), expected[0], "gradient", "inputGradient");
    close(
      kernelGradient(inputs[0], dy, kernel, geometry),
      expected[1],
      "gradient",
      "kernelGradient",
    );
  });
}
sums("refuses an input whose channels the kernel does not read", () => {
  assert.throws(
    () => convolve(tf.zeros([1, 4, 4, 3]), tf.zeros([3, 3, 4, 8])),
    (error: Error) => error instanceof TypeError && /current kernel reads 4/.test(error.message),
  );
});
sums("refuses a kernel larger than the padded input", () => {
  assert.throws(
    () => convolve(tf.zeros([1, 2, 2, 3]), tf.zeros([3, 3, 3, 8])),
    (error: Error) => error instanceof RangeError && /reaches over 3×3/.test(error.message),
  );
});
sums.run();

const columns = suite("unfold()");
leakless(columns);
for (
  const { name, kernel, x, geometry } of PLACES.filter(({ kernel }) => space(kernel).length > 0)
) {
  const groups = geometry.groups ?? 1;
  columns(`${name}: ⟨unfold(x), m⟩ = ⟨x, fold(m)⟩`, () => {
    const input = tensor(x, 1), matrix = unfold(input, kernel, geometry);
    const m = tensor(matrix.shape, 4);
    const left = tf.sum(tf.mul(matrix, m)),
      right = tf.sum(tf.mul(input, fold(m, x, kernel, geometry)));
    close(left, right);
  });
  columns(`${name}: kernelMatrix() and matrixKernel() are inverses`, () => {
    const w = tensor(kernel, 2), matrix = kernelMatrix(w, groups);
    assert.is(matrix.size, size(kernel));
    assert.equal([...matrixKernel(matrix, kernel).dataSync()], [...w.dataSync()]);
  });
}
columns.run();
