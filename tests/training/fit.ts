import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { fit } from "../../lib/training/fit.ts";
import { close, leakless } from "../support/close.ts";

/** Points of y = 2x + 1, as many batches as are taken. */
function* line() {
  for (;;) yield { x: tf.tensor1d([-1, 0, 1, 2]), y: tf.tensor1d([-1, 1, 3, 5]) };
}

/** A line through the origin until it is trained, and its squared error. */
function model() {
  const slope = tf.variable(tf.scalar(0)), height = tf.variable(tf.scalar(0));
  const loss = ({ x, y }: { x: tf.Tensor; y: tf.Tensor }) =>
    tf.losses.meanSquaredError(y, tf.add(tf.mul(slope, x), height)) as tf.Scalar;
  return { slope, height, loss };
}

const loop = suite("fit()");
leakless(loop);

loop("finds the line through points on a line", async () => {
  const { slope, height, loss } = model();
  const optimizer = tf.train.sgd(0.1);
  const { losses } = await fit([slope, height], line(), loss, { steps: 200, optimizer });
  close(tf.stack([slope, height]), tf.tensor1d([2, 1]));
  assert.is(losses.length, 200);
  assert.is(losses[0], 9); // (1 + 1 + 9 + 25) / 4
  optimizer.dispose();
  tf.dispose([slope, height]);
});

loop("trains the given variables and no others", async () => {
  const { slope, height, loss } = model();
  await fit([slope], line(), loss, { steps: 3 });
  assert.is.not(slope.dataSync()[0], 0);
  assert.is(height.dataSync()[0], 0);
  tf.dispose([slope, height]);
});

loop("ends with the batches, and tells every step", async () => {
  const { slope, height, loss } = model();
  const two = [...Array(2)].map(() => line().next().value!);
  const told: [number, number][] = [];
  const onStep = (step: number, loss: number) => void told.push([step, loss]);
  const { losses, msPerStep } = await fit([slope, height], two, loss, { onStep });
  assert.equal(told, [[1, losses[0]], [2, losses[1]]]);
  assert.ok(msPerStep > 0);
  tf.dispose([slope, height]);
});

loop("takes no batch for no steps", async () => {
  const { slope, height, loss } = model();
  const { losses } = await fit([slope], line(), loss, { steps: 0 });
  assert.equal(losses, []);
  tf.dispose([slope, height]);
});

loop("stops where the signal says so, and keeps what was learnt", async () => {
  const { slope, height, loss } = model();
  const control = new AbortController();
  const onStep = (step: number) => step === 2 && control.abort(new Error("enough"));
  try {
    await fit([slope], line(), loss, { onStep, signal: control.signal });
    assert.unreachable();
  } catch (error) {
    assert.is((error as Error).message, "enough");
  }
  assert.is.not(slope.dataSync()[0], 0);
  tf.dispose([slope, height]);
});

loop("leaves nothing behind when the loss throws", async () => {
  const { slope, height } = model();
  const broken = () => {
    throw new Error("no loss");
  };
  try {
    await fit([slope], line(), broken, { steps: 2 });
    assert.unreachable();
  } catch (error) {
    assert.is((error as Error).message, "no loss");
  }
  tf.dispose([slope, height]);
});

loop.run();
