import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { groupConv2d, lora } from "../../mod.ts";
import { close, leakless } from "../support/close.ts";
import { tensor } from "../support/trained.ts";

const initializer = (seed: number) => tf.initializers.glorotNormal({ seed });
const layer = groupConv2d({
  inputShape: [7, 6, 4],
  filters: 6,
  kernelSize: [3, 2],
  strides: [2, 1],
  padding: "same",
  groups: 2,
  activation: "relu",
  kernelInitializer: initializer(1),
  biasInitializer: "ones",
});
const model = tf.sequential({ layers: [layer] });

const grouping = suite("groupConv2d()");
leakless(grouping);

grouping("is tf.layers' own convolution of each group by itself", () => {
  const x = tensor([2, 7, 6, 4], 1), [kernel, bias] = layer.getWeights();
  assert.equal(kernel.shape, [3, 2, 2, 6]);
  const kernels = tf.split(kernel, 2, -1), biases = tf.split(bias, 2);
  const parts = tf.split(x, 2, -1).map((part, g) => {
    const conv = tf.layers.conv2d({
      filters: 3,
      kernelSize: [3, 2],
      strides: [2, 1],
      padding: "same",
      activation: "relu",
    });
    conv.apply(part);
    conv.setWeights([kernels[g], biases[g]]);
    const y = conv.apply(part) as tf.Tensor;
    conv.dispose();
    return y;
  });
  const y = model.predict(x) as tf.Tensor;
  close(y, tf.concat(parts, -1));
  assert.equal(layer.outputShape, [null, ...y.shape.slice(1)]);
});

grouping("takes channels first", () => {
  const args = { filters: 6, kernelSize: 3, groups: 2, kernelInitializer: initializer(1) };
  const x = tensor([2, 5, 6, 4], 1);
  const last = groupConv2d(args), first = groupConv2d({ ...args, dataFormat: "channelsFirst" });
  const y = first.apply(tf.transpose(x, [0, 3, 1, 2])) as tf.Tensor;
  close(tf.transpose(y, [0, 2, 3, 1]), last.apply(x) as tf.Tensor);
  first.dispose();
  last.dispose();
});

grouping("is saved and loaded with a model", async () => {
  const x = tensor([2, 7, 6, 4], 1);
  let saved: tf.io.ModelArtifacts;
  await model.save(tf.io.withSaveHandler((artifacts) => {
    saved = artifacts;
    return Promise.resolve({
      modelArtifactsInfo: { dateSaved: new Date(), modelTopologyType: "JSON" },
    });
  }));
  const loaded = await tf.loadLayersModel(tf.io.fromMemory(saved!));
  assert.is(loaded.layers[0].getClassName(), "GroupConv2D");
  close(loaded.predict(x) as tf.Tensor, model.predict(x) as tf.Tensor);
  loaded.dispose();
});

grouping("refuses groups that do not divide the channels", () => {
  assert.throws(
    () => groupConv2d({ filters: 6, kernelSize: 3, groups: 4 }),
    /groups must divide its 6 filters: current groups is 4/,
  );
  const narrow = groupConv2d({ filters: 6, kernelSize: 1, groups: 3 });
  assert.throws(
    () => narrow.apply(tf.ones([1, 2, 2, 4])),
    /divide its 4 input channels: current groups is 3/,
  );
});

grouping("trains an adapter and no more by fit", async () => {
  const x = tensor([4, 7, 6, 4], 1), before = layer.getWeights().map((weight) => weight.dataSync());
  const y = tf.add(model.predict(x) as tf.Tensor, 0.1);
  const optimizer = tf.train.sgd(0.01), all = lora.model(model, 2);
  model.compile({ optimizer, loss: "meanSquaredError" });
  const { history } = await model.fit(x, y, { epochs: 4, verbose: 0 });
  assert.ok(history.loss.at(-1)! < history.loss[0]);
  all.detach();
  assert.equal(layer.getWeights().map((weight) => weight.dataSync()), before);
  optimizer.dispose();
});

grouping.run();
