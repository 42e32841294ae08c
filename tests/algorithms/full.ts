import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { attach, files, full, lora, merge, mergeBias, norm } from "../../mod.ts";
import { mapFactors } from "../../lib/adapter/adapter.ts";
import { view } from "../../lib/adapter/view.ts";
import * as kohya from "../../lib/files/kohya.ts";
import { close, leakless } from "../support/close.ts";
import { values } from "../support/geometries.ts";

const tensor = (shape: readonly number[], seed: number) =>
  tf.tensor(values(shape, seed), [...shape]);
const trained = (adapter: ReturnType<typeof full.create>) =>
  mapFactors(adapter, (factor, name) => tensor(factor.shape, name.length));
const numbers = (x: tf.Tensor) => [...x.dataSync()];
const dense = (useBias = true) => {
  const layer = tf.layers.dense({ units: 4, inputShape: [3], useBias, biasInitializer: "ones" });
  return { layer, model: tf.sequential({ layers: [layer] }) };
};

const whole = suite("full");

whole("adapts the bias of a layer that has one, merges it and gives it back", () => {
  const { layer, model } = dense(), x = tensor([2, 3], 1);
  const run = () => model.predict(x) as tf.Tensor;
  const before = numbers(run()), weights = layer.getWeights().map(numbers);
  const attached = full.linear(layer);
  attached.strength = 0.5;
  for (const factor of Object.values(attached.adapter.factors)) {
    (factor as tf.Variable).assign(tensor(factor!.shape, 3));
  }
  const adapted = run(), kept = attached.detach({ keep: true })!;
  assert.equal(numbers(run()), before);
  assert.equal(layer.getWeights().map(numbers), weights);
  attach(layer, kept, { strength: 0.5 }).merge();
  close(run(), adapted);
  close(layer.getWeights()[1], tf.add(1, tf.mul(tensor([4], 3), 0.5)));
});
whole("is saved by the model as W′ and b′", async () => {
  const { layer, model } = dense(), attached = full.linear(layer), x = tensor([2, 3], 1);
  const { bias } = attached.adapter.factors;
  (bias as tf.Variable).assign(tensor([4], 5));
  const adapted = model.predict(x) as tf.Tensor;
  let saved: tf.io.ModelArtifacts = {};
  await model.save(tf.io.withSaveHandler((artifacts) => {
    saved = artifacts;
    const modelArtifactsInfo = { dateSaved: new Date(0), modelTopologyType: "JSON" as const };
    return Promise.resolve({ modelArtifactsInfo });
  }));
  const opened = await tf.loadLayersModel(tf.io.fromMemory(saved));
  close(opened.predict(x) as tf.Tensor, adapted);
  attached.detach();
});
whole("is refused by a layer without the bias that it has", () => {
  const { layer } = dense(false);
  assert.is(full.linear(layer).adapter.factors.bias, undefined);
  const adapter = full.create([3, 4], { bias: true });
  assert.throws(() => attach(layer, adapter), /its bias is for a layer that has one/);
});
whole("drops rows of ΔW and of Δb together", () => {
  const adapter = trained(full.create([3, 4], { bias: true, rankDropout: 0.5 }));
  const drawn = [0.9, 0.1, 0.6, 0.2];
  const seen = view(adapter, { training: true, random: () => drawn.shift()! })!;
  assert.equal(numbers(seen.mask!), [1, 0, 1, 0]);
});
whole("reads a difference of any shape, a vector's too", () => {
  const vector = kohya.read({ diff: tensor([5], 1), diff_b: tensor([5], 2) })!;
  const gamma = tensor([5], 3);
  close(merge(gamma, vector), tf.add(gamma, tensor([5], 1)));
  close(mergeBias(gamma, vector)!, tf.add(gamma, tensor([5], 2)));
  assert.throws(() => kohya.read({ diff: tensor([5, 2], 1), diff_b: tensor([4], 2) }), /bias 4/);
});
whole.run();

const vectors = suite("norm");
leakless(vectors);

vectors("is for a vector", () => {
  assert.throws(() => norm.create([3, 4]), /a normalization's \[C\]: current shape is 3×4/);
  assert.throws(() => full.create([4]), /a kernel is/);
  assert.throws(() => lora.create([4], 1), /a kernel is/);
});
vectors("is kept in a file under its own names", async () => {
  const adapter = trained(norm.create([5], { bias: true }));
  assert.equal(Object.keys(kohya.write(adapter)).sort(), ["b_norm", "w_norm"]);
  const { adapters } = await files.open(await files.encode(new Map([["norm", adapter]])));
  const back = adapters.get("norm")!, gamma = tensor([5], 3);
  close(merge(gamma, back), merge(gamma, adapter));
  tf.dispose(Object.values(back.factors) as tf.Tensor[]);
});
vectors.run();
