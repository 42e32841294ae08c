/** OFT and BOFT against their definitions, channel by channel. */
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { boft, merge, oft } from "../../mod.ts";
import { type Adapter, mapFactors } from "../../lib/adapter/adapter.ts";
import { view } from "../../lib/adapter/view.ts";
import { constrain } from "../../lib/algorithms/oft.ts";
import * as kohya from "../../lib/files/kohya.ts";
import { cayley, skew } from "../../lib/tensor/cayley.ts";
import { close, leakless } from "../support/close.ts";
import { values } from "../support/geometries.ts";

const tensor = (shape: readonly number[], seed: number) =>
  tf.tensor(values(shape, seed), [...shape]);
const turned = (adapter: Adapter, size = 0.5) =>
  mapFactors(adapter, (factor, name) => tf.mul(tensor(factor.shape, name.length), size));

const rotations = suite("oft");
leakless(rotations);

rotations("turns every block of outputs by its R", () => {
  const { factors } = turned(oft.create([5, 12], 3)), W = tensor([5, 12], 1);
  const R = cayley(skew(factors.blocks!)).arraySync() as number[][][];
  const w = W.arraySync() as number[][];
  const expected = w.map((row) =>
    row.map((_, o) => {
      const block = Math.floor(o / 3);
      return [0, 1, 2].reduce((sum, i) => sum + row[3 * block + i] * R[block][i][o % 3], 0);
    })
  );
  close(tf.add(W, oft.delta(factors as { blocks: tf.Tensor }, W)), tf.tensor(expected));
});
rotations("keeps the length of every row of a block, and the angles between rows", () => {
  const W = tensor([3, 3, 4, 12], 1), adapter = turned(oft.create(W.shape, 4), 2);
  const rows = (kernel: tf.Tensor) => {
    const blocks = tf.transpose(tf.reshape(kernel, [36, 4, 3]), [1, 0, 2]);
    return tf.matMul(blocks, blocks, false, true);
  };
  close(rows(merge(W, adapter)), rows(W), "rotation");
});
rotations("splits O as LyCORIS's factorization does, the smaller part for the block", () => {
  assert.equal(oft.create([4, 16], 8).factors.blocks.shape, [8, 2, 2]);
  assert.equal(oft.create([4, 24], 4).factors.blocks.shape, [6, 4, 4]);
  assert.equal(oft.create([4, 17], 4).factors.blocks.shape, [17, 1, 1]);
  assert.is(oft.create([4, 16], 8).rank, 2);
});
rotations("with a constraint holds ‖Q‖ to it times O, and leaves shorter ones as they are", () => {
  const blocks = tensor([6, 4, 4], 3), norm = tf.norm(skew(blocks)).dataSync()[0];
  close(tf.norm(skew(constrain(blocks, norm / 3))), tf.scalar(norm / 3));
  assert.equal([...constrain(blocks, norm * 2).dataSync()], [...blocks.dataSync()]);
  const adapter = { ...turned(oft.create([5, 24], 4)), constraint: 0.01 };
  close(tf.norm(skew(view(adapter)!.factors.blocks!)), tf.scalar(0.24));
});
rotations("with a constraint has a gradient at birth", () => {
  const { blocks } = oft.create([5, 24], 4).factors;
  const gradient = tf.grad((blocks) => constrain(blocks, 0.1))(blocks);
  assert.equal([...gradient.dataSync()], Array(blocks.size).fill(1));
});
rotations("drops numbers of R in training, none of the identity that strength adds", () => {
  const W = tensor([5, 12], 1), adapter = turned(oft.create([5, 12], 3, { rankDropout: 0.5 }));
  const { factors } = view(adapter, { training: true, random: () => 0.9 })!;
  assert.equal([...factors.mask!.dataSync()], Array(36).fill(2));
  const R = cayley(skew(factors.blocks!));
  const expected = turnedBy(W, tf.mul(R, 2));
  close(tf.add(W, oft.delta(factors as { blocks: tf.Tensor }, W)), expected);
});

/** W · diag(R). */
function turnedBy(W: tf.Tensor, R: tf.Tensor): tf.Tensor {
  const [n, b] = R.shape, runs = tf.split(W, n, 1);
  const blocks = tf.split(R, n, 0).map((block) => tf.reshape(block, [b, b]));
  return tf.concat(runs.map((run, i) => tf.matMul(run, blocks[i])), 1);
}
rotations.run();

const butterfly = suite("boft");
leakless(butterfly);

butterfly("takes channel c·2k + g·k + t of a stage to place c·2k + 2t + g, and back", () => {
  const O = 24, W = tensor([3, O], 1), { factors } = turned(boft.create([3, O], 6));
  const R = cayley(skew(factors.blocks!)), [m, n, b] = R.shape;
  assert.equal([m, n, b], [3, 4, 6]);
  let expected = W;
  for (let stage = 0; stage < m; stage++) {
    const k = 2 ** stage * b / 2;
    const place = Array.from({ length: O }, (_, o) => {
      const c = Math.floor(o / (2 * k)), g = Math.floor(o / k) % 2, t = o % k;
      return c * 2 * k + 2 * t + g;
    });
    const from = place.map((_, at) => place.indexOf(at));
    const gathered = tf.gather(expected, from, 1);
    const block = tf.reshape(tf.slice(R, [stage, 0, 0, 0], [1, n, b, b]), [n, b, b]);
    // R from the left of PyTorch's rows is Rᵀ from the right of these columns
    const stageTurned = turnedBy(gathered, tf.transpose(block, [0, 2, 1]));
    expected = tf.gather(stageTurned, place, 1);
  }
  close(tf.add(W, boft.delta(factors as { blocks: tf.Tensor }, W)), expected);
});
butterfly("lets every output depend on every other", () => {
  const O = 16, { factors } = turned(boft.create([O, O], 4)), W = tf.eye(O);
  const all = tf.add(W, boft.delta(factors as { blocks: tf.Tensor }, W)).dataSync();
  assert.is(all.filter((value) => Math.abs(value) < 1e-9).length, 0);
});
butterfly("is a rotation of all outputs", () => {
  const W = tensor([7, 24], 1), adapter = turned(boft.create([7, 24], 12), 2);
  const gram = (kernel: tf.Tensor) => tf.matMul(kernel, kernel, false, true);
  close(gram(merge(W, adapter)), gram(W), "rotation");
});
butterfly("refuses outputs that are no even block times a power of two", () => {
  for (const [O, rank] of [[17, 4], [24, 4], [320, 8], [16, 1]]) {
    assert.throws(() => boft.create([4, O], rank), /must be a power of two/);
  }
  assert.equal(boft.create([4, 320], 32).factors.blocks.shape, [5, 16, 20, 20]);
});
butterfly("refuses a file whose blocks are no butterfly", () => {
  for (const shape of [[3, 2, 4, 4], [2, 3, 4, 4], [2, 2, 3, 3], [2, 2, 4, 2]]) {
    const torch = { oft_blocks: tf.zeros(shape), alpha: tf.scalar(0) };
    assert.throws(() => kohya.read(torch), /current (blocks|factors) are/);
  }
});
butterfly.run();
