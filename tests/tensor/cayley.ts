import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { between, cayley, inverseBetween, skew, transposed } from "../../lib/tensor/cayley.ts";
import { close, leakless } from "../support/close.ts";
import { values } from "../support/geometries.ts";

const blocks = (shape: number[], size: number, seed: number) =>
  skew(tf.mul(tf.tensor(values(shape, seed), shape), size));

const rotations = suite("cayley()");
leakless(rotations);

rotations("turns by 2 atan(t) for Q = [[0, −t], [t, 0]]", () => {
  for (const t of [0.1, 1, 7]) {
    const angle = 2 * Math.atan(t), [c, s] = [Math.cos(angle), Math.sin(angle)];
    close(cayley(tf.tensor([[[0, -t], [t, 0]]])), tf.tensor([[[c, -s], [s, c]]]));
  }
});
rotations("is exactly I where Q is zero", () => {
  assert.equal([...cayley(tf.zeros([2, 3, 3])).dataSync()], [
    ...tf.tile(tf.reshape(tf.eye(3), [1, 3, 3]), [2, 1, 1]).dataSync(),
  ]);
});
rotations("is (I + Q)(I − Q)⁻¹ and a rotation, however long Q is", () => {
  for (const size of [0.01, 1, 100]) {
    for (const shape of [[5, 4, 4], [2, 3, 7, 7], [1, 40, 40]]) {
      const Q = blocks(shape, size, 3), R = cayley(Q), I = tf.eye(shape[shape.length - 1]);
      close(tf.matMul(R, R, true), tf.add(tf.zeros(shape), I), "value", "RᵀR");
      close(tf.matMul(R, tf.sub(I, Q)), tf.add(I, Q), "value", "R (I − Q)");
    }
  }
});
rotations("has the gradient that differences have", () => {
  const Q = blocks([3, 4, 4], 0.4, 1), G = tf.tensor(values([3, 4, 4], 2), [3, 4, 4]);
  const direction = blocks([3, 4, 4], 0.3, 5), step = 1e-2;
  const at = (s: number) => cayley(tf.add(Q, tf.mul(direction, s)));
  const difference = tf.div(tf.sub(at(step), at(-step)), 2 * step);
  const gradient = tf.grad((Q) => cayley(Q))(Q, G);
  const [slope, expected] = [tf.sum(tf.mul(gradient, direction)), tf.sum(tf.mul(G, difference))]
    .map((sum) => sum.dataSync()[0]);
  assert.ok(Math.abs(slope - expected) < 1e-3 * Math.abs(expected), `${slope} is not ${expected}`);
});
rotations.run();

const interpolated = suite("between()");
leakless(interpolated);

interpolated("is undone by inverseBetween() at every strength", () => {
  const Q = blocks([2, 5, 5], 2, 4), I = tf.add(tf.zeros([2, 5, 5]), tf.eye(5));
  for (const s of [-0.5, 0, 0.25, 0.5, 1, 1.5]) {
    const R = between(cayley(Q), s);
    close(tf.matMul(R, inverseBetween(Q, s)), I, "rotation", `s = ${s}`);
  }
});
interpolated(
  "shortens by √(1 − 4s(1 − s) sin²(φ/2)), so that it is a rotation at s = 0 and s = 1 only",
  () => {
    const t = 0.7, phi = 2 * Math.atan(t), Q = tf.tensor([[[0, -t], [t, 0]]]);
    for (const s of [0, 0.3, 0.5, 1, 1.2]) {
      const R = between(cayley(Q), s), square = 1 - 4 * s * (1 - s) * Math.sin(phi / 2) ** 2;
      close(tf.matMul(transposed(R), R), tf.mul(tf.reshape(tf.eye(2), [1, 2, 2]), square));
    }
  },
);
interpolated.run();
