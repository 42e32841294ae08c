import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { matrix, transpose } from "../../lib/tensor/matrix.ts";
import type { Shape } from "../../lib/tensor/shape.ts";
import { lost, svd } from "../../lib/tensor/svd.ts";
import { tucker, type TuckerForm, tuckerOf } from "../../lib/tensor/tucker.ts";
import { close, leakless, TOLERANCE } from "../support/close.ts";
import { values } from "../support/geometries.ts";
import { noise, skew } from "../support/matrices.ts";

const tensor = (shape: readonly number[], seed: number) =>
  tf.tensor(values(shape, seed), [...shape]);

const SHAPES: [core: number[], I: number, O: number][] = [
  [[3, 3, 2, 4], 5, 6], // down first is cheaper
  [[3, 3, 4, 2], 6, 5], // up first is cheaper
  [[3, 2, 2], 7, 3],
  [[2, 1, 3, 3, 2], 4, 5],
  [[2, 3], 4, 5],
  [[1, 1, 1, 1], 1, 1],
];

const form = suite("tucker()");
leakless(form);

for (const [core, I, O] of SHAPES) {
  form(
    `is Σ core[…, a, b] · down[i, a] · up[b, o]: ${core.join("×")} between ${I} and ${O}`,
    () => {
      const [r1, r2] = core.slice(-2), k = core.slice(0, -2);
      const c = tensor(core, 1), d = tensor([I, r1], 2), u = tensor([r2, O], 3);
      const cores = tf.reshape(c, [-1, r1, r2]).arraySync() as number[][][];
      const down = d.arraySync() as number[][], up = u.arraySync() as number[][];
      const expected = cores.map((plane) =>
        down.map((row) =>
          up[0].map((_, o) =>
            plane.reduce(
              (sum, line, a) => line.reduce((sum, x, b) => sum + x * row[a] * up[b][o], sum),
              0,
            )
          )
        )
      );
      close(tucker(c, d, u), tf.reshape(tf.tensor(expected), [...k, I, O]));
    },
  );

  form(`has gradients for all three: ${core.join("×")} between ${I} and ${O}`, () => {
    const [r1, r2] = core.slice(-2), shapes = [core, [I, r1], [r2, O]];
    const g = tensor([...core.slice(0, -2), I, O], 9);
    const f = (core: tf.Tensor, down: tf.Tensor, up: tf.Tensor): tf.Scalar =>
      tf.sum(tf.mul(g, tucker(core, down, up)));
    const [c, d, u] = shapes.map((shape, seed) => tensor(shape, seed));
    // linear in each: the gradient, with another factor, gives the value at that factor
    const others = shapes.map((shape, seed) => tensor(shape, seed + 4));
    const moved = [f(others[0], d, u), f(c, others[1], u), f(c, d, others[2])];
    tf.grads(f)([c, d, u]).forEach((gradient, i) =>
      close(tf.sum(tf.mul(gradient, others[i])), moved[i], "gradient")
    );
  });
}

form("leaves no tensor but the kernel", () => {
  const factors = [tensor([3, 3, 2, 2], 1), tensor([4, 2], 2), tensor([2, 4], 3)] as const;
  const before = tf.memory().numTensors;
  tucker(...factors);
  assert.is(tf.memory().numTensors, before + 1);
});
form.run();

const decomposition = suite("tuckerOf()");
leakless(decomposition);

const single = (data: Float64Array, shape: Shape) => tf.tensor(new Float32Array(data), [...shape]);
const rebuilt = ({ core, down, up }: TuckerForm) =>
  tucker(
    single(core.data, core.shape),
    single(down.data, [down.rows, down.columns]),
    single(up.data, [up.rows, up.columns]),
  );

for (const k of [[], [3], [3, 3], [2, 1, 3]]) {
  const name = k.length === 0 ? "dense" : k.join("×");
  decomposition(`finds a form that is there: ${name}`, () => {
    const kernel = tucker(tensor([...k, 2, 2], 1), tensor([9, 2], 2), tensor([2, 7], 3));
    const found = tuckerOf({ shape: kernel.shape, data: kernel.dataSync() }, 2);
    assert.equal(found.core.shape, [...k, 2, 2]);
    assert.ok(found.error < 1e-6); // the kernel is float32
    close(rebuilt(found), kernel);
    assert.ok(skew(found.down) < TOLERANCE.double && skew(transpose(found.up)) < TOLERANCE.double);
  });

  decomposition(`says its error: ${name}`, () => {
    const kernel = tensor([...k, 9, 7], 1);
    const found = tuckerOf({ shape: kernel.shape, data: kernel.dataSync() }, 3);
    const error = tf.div(tf.norm(tf.sub(rebuilt(found), kernel)), tf.norm(kernel));
    close(error, tf.scalar(found.error));
  });
}

decomposition("of a matrix is its SVD cut at the rank", () => {
  const w = noise(12, 9, 1), { spectrum } = svd(w);
  const { error } = tuckerOf({ shape: [12, 9], data: w.data }, 4);
  assert.ok(Math.abs(error - lost(spectrum, 4)) < 1e-14);
});

decomposition("loses at most what its two unfoldings lose, at least the larger of them", () => {
  const w = noise(9 * 16, 12, 1); // [3·3·16, 12]
  const alongO = lost(svd(w).spectrum, 5);
  const byInput = Array.from({ length: w.data.length }, (_, at) => {
    const i = at % 16, o = Math.floor(at / 16) % 12, k = Math.floor(at / 192);
    return w.data[(k * 16 + i) * 12 + o];
  });
  const alongI = lost(svd(matrix(9 * 12, 16, byInput)).spectrum, 5);
  const { error } = tuckerOf({ shape: [3, 3, 16, 12], data: w.data }, 5);
  assert.ok(error <= Math.hypot(alongI, alongO) && error >= Math.max(alongI, alongO));
});

decomposition("comes nearer with every sweep", () => {
  const kernel = { shape: [3, 3, 16, 12], data: noise(144, 12, 1).data };
  const errors = [0, 1, 2, 5].map((sweeps) => tuckerOf(kernel, 4, { sweeps }).error);
  assert.ok(errors[1] < errors[0] && errors[2] < errors[1] && errors[3] < errors[2]);
});

decomposition("keeps an axis whole that is shorter than the rank", () => {
  const kernel = { shape: [3, 3, 4, 20], data: noise(36, 20, 1).data };
  const found = tuckerOf(kernel, 8);
  assert.equal([found.down.columns, found.up.rows], [4, 8]);
  assert.ok(tuckerOf(kernel, 20).error < 1e-14);
});

decomposition("of zeros is zero, without an error", () => {
  const { core, error } = tuckerOf({ shape: [3, 3, 4, 5], data: new Float32Array(180) }, 2);
  assert.is(error, 0);
  assert.ok(core.data.every((x) => x === 0));
});
decomposition.run();
