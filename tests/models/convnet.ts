import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as engine from "../../lib/engines/engine.ts";
import { convnet, type ConvnetOptions } from "../../lib/models/convnet.ts";
import { fit } from "../../lib/training/fit.ts";
import { leakless } from "../support/close.ts";

/** All weights of a network in a row. */
function weights(options: ConvnetOptions): number[] {
  const model = convnet(options);
  const values = model.getWeights().flatMap((weight) => [...weight.dataSync()]);
  model.dispose();
  return values;
}

const network = suite("convnet()");
network.before(async () => void (await engine.use("wasm")));
leakless(network);

network("has the layers and parameters it says", () => {
  const model = convnet();
  const kernels = model.layers.map(({ name, weights: [kernel] }) => [name, kernel?.shape]);
  assert.equal(kernels, [
    ["conv1", [5, 5, 1, 16]],
    ["conv2", [3, 3, 16, 32]],
    ["conv3", [3, 3, 32, 64]],
    ["flat", undefined],
    ["hidden", [1024, 64]],
    ["head", [64, 10]],
  ]);
  assert.is(model.countParams(), 89_802);
  assert.equal(model.outputShape, [null, 10]);
  model.dispose();
});

network("is the same for the same seed, and another for another", () => {
  assert.equal(weights({ seed: 3 }), weights({ seed: 3 }));
  assert.not.equal(weights({ seed: 3 }), weights({ seed: 4 }));
});

network("has no two layers that begin alike", () => {
  const model = convnet();
  const kernels = model.layers.filter(({ weights }) => weights.length > 0)
    .map(({ weights: [kernel] }) => kernel.read().dataSync()[0]);
  assert.is(new Set(kernels).size, 5);
  model.dispose();
});

network("learns a few images by heart", async () => {
  const model = convnet({ classes: 3, seed: 1 });
  const x = tf.randomUniform([6, 28, 28, 1], 0, 1, "float32", 1);
  const y = tf.oneHot([0, 1, 2, 0, 1, 2], 3);
  const again = function* () {
    for (;;) yield [];
  };
  const variables = model.trainableWeights.map((weight) => weight.read() as tf.Variable);
  const loss = () => tf.losses.softmaxCrossEntropy(y, model.apply(x) as tf.Tensor) as tf.Scalar;
  const { losses } = await fit(variables, again(), loss, { steps: 40, rate: 5e-3 });
  assert.ok(losses[39] < 0.1 * losses[0], `loss is ${losses[39]} after ${losses[0]}`);
  model.dispose();
});

network.run();
