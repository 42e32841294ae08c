/** Choosing an engine, and training on it. */
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as engine from "../../lib/engines/engine.ts";
import { under } from "../support/environment.ts";
import { values } from "../support/geometries.ts";

const use = suite("engine.use()");

use("says what it selected, and so does engine.name from then on", async () => {
  for (const { name, available } of await engine.list()) {
    if (available !== true) continue;
    assert.is(await engine.use(name), name);
    assert.is(engine.name, name);
    assert.is(tf.getBackend(), name);
  }
});

use("takes the first that starts for auto", async () => {
  const [first] = (await engine.list()).filter(({ available }) => available === true);
  await under({ LOWRANK_ENGINE: undefined }, async () => {
    assert.is(await engine.use("auto"), first.name);
  });
});

use("lets the environment decide for auto, and refuses what it does not know", async () => {
  await under({ LOWRANK_ENGINE: "cpu" }, async () => assert.is(await engine.use(), "cpu"));
  const error = await under({ LOWRANK_ENGINE: "abacus" }, () => engine.use().catch((e) => e));
  assert.instance(error, RangeError);
  assert.match(error.message, /"abacus".*auto, .*wasm, .*cpu.*LOWRANK_ENGINE/);
});

use("prefers for auto a backend from outside, selected or only registered", async () => {
  await engine.use("cpu");
  tf.registerBackend("outside", () => tf.findBackend("cpu"));
  await under({ LOWRANK_ENGINE: undefined }, async () => {
    assert.is(await engine.use("auto"), "outside");
    assert.is(await engine.use("auto"), "outside");
  });
  await engine.use("cpu");
  tf.removeBackend("outside");
});

use("leaves halving to the engine that can", async () => {
  await engine.use("cpu");
  const x = tf.ones([2]);
  assert.throws(() => engine.halve(x), /must be tensorflow: current engine is cpu/);
  x.dispose();
});
use.run();

/** A classifier of 8×8 images with every kind of layer that has weights of its own. */
function network(): tf.Sequential {
  const kernelInitializer = tf.initializers.glorotUniform({ seed: 1 });
  const layers = [
    tf.layers.conv2d({
      inputShape: [8, 8, 1],
      filters: 4,
      kernelSize: 3,
      activation: "relu",
      padding: "same",
      kernelInitializer,
    }),
    tf.layers.maxPooling2d({ poolSize: 2 }),
    tf.layers.separableConv2d({
      filters: 6,
      kernelSize: 3,
      padding: "same",
      depthwiseInitializer: kernelInitializer,
      pointwiseInitializer: kernelInitializer,
    }),
    tf.layers.batchNormalization(),
    tf.layers.conv2dTranspose({ filters: 4, kernelSize: 3, strides: 2, kernelInitializer }),
    tf.layers.flatten(),
    tf.layers.dense({ units: 3, activation: "softmax", kernelInitializer }),
  ];
  return tf.sequential({ layers });
}

for (const { name, available } of await engine.list()) {
  const fit = suite(`${name} model.fit()`);
  const test = available === true ? fit : fit.skip;
  test("learns, and leaves no tensor over", async () => {
    await engine.use(name);
    const x = tf.tensor4d(values([32, 8, 8, 1], 1), [32, 8, 8, 1]);
    const y = tf.oneHot(tf.tensor1d(Array.from({ length: 32 }, (_, i) => i % 3), "int32"), 3);
    const model = network();
    const optimizer = tf.train.adam(0.01);
    model.compile({ optimizer, loss: "categoricalCrossentropy" });
    const options = { epochs: 10, batchSize: 16, shuffle: false, verbose: 0 } as const;
    const [first] = (await model.fit(x, y, options)).history.loss as number[];
    const tensors = tf.memory().numTensors;
    const last = (await model.fit(x, y, options)).history.loss[9] as number;
    assert.is(tf.memory().numTensors, tensors);
    assert.ok(last < first / 2, `loss went from ${first} to ${last}`);
    model.dispose();
    optimizer.dispose();
    tf.dispose([x, y]);
  });
  fit.run();
}
