import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  attach,
  boft,
  dispose,
  dylora,
  full,
  glora,
  ia3,
  loha,
  lokr,
  lora,
  oft,
  tlora,
} from "../../mod.ts";
import type { Attached } from "../../lib/layers/site.ts";
import { close, leakless } from "../support/close.ts";
import { values } from "../support/geometries.ts";

/** A layer of every kind that takes an adapter, with its input. */
const LAYERS: [name: string, x: number[], make: (x: number[]) => tf.layers.Layer][] = [
  [
    "Dense",
    [3, 6],
    () => tf.layers.dense({ units: 5, activation: "tanh", biasInitializer: "ones" }),
  ],
  ["Dense on sequences", [2, 4, 6], () => tf.layers.dense({ units: 5, useBias: false })],
  [
    "Conv1D",
    [2, 9, 4],
    () =>
      tf.layers.conv1d({
        filters: 6,
        kernelSize: 3,
        strides: 2,
        padding: "same",
        activation: "relu",
      }),
  ],
  [
    "Conv2D",
    [2, 7, 6, 3],
    () =>
      tf.layers.conv2d({
        filters: 6,
        kernelSize: 3,
        strides: 2,
        padding: "same",
        activation: "sigmoid",
      }),
  ],
  [
    "Conv2D dilated",
    [1, 8, 8, 3],
    () => tf.layers.conv2d({ filters: 6, kernelSize: [3, 2], dilationRate: 2, activation: "elu" }),
  ],
  [
    "Conv2D pointwise",
    [2, 4, 4, 6],
    () => tf.layers.conv2d({ filters: 5, kernelSize: 1, biasInitializer: "ones" }),
  ],
  [
    "Conv2D channels first",
    [2, 3, 6, 7],
    () =>
      tf.layers.conv2d({
        filters: 6,
        kernelSize: 3,
        dataFormat: "channelsFirst",
        activation: "relu",
      }),
  ],
  [
    "Conv3D",
    [1, 4, 5, 4, 2],
    () => tf.layers.conv3d({ filters: 4, kernelSize: 2, padding: "same", activation: "relu" }),
  ],
  [
    "DepthwiseConv2D",
    [2, 6, 6, 3],
    () => tf.layers.depthwiseConv2d({ kernelSize: 3, depthMultiplier: 2, activation: "relu" }),
  ],
];

const tensor = (shape: readonly number[], seed: number) =>
  tf.tensor(values(shape, seed), [...shape]);
const numbers = (x: tf.Tensor) => [...x.dataSync()];
const run = (layer: tf.layers.Layer, x: tf.Tensor) => layer.apply(x) as tf.Tensor;

/** Factors that no longer are as born. */
function train(adapter: { factors: Record<string, tf.Tensor | undefined> }): void {
  for (const [i, factor] of Object.values(adapter.factors).entries()) {
    (factor as tf.Variable).assign(tf.mul(tensor(factor!.shape, i + 3), 0.5));
  }
}

const layers = suite("attach()");
leakless(layers);

for (const [name, x, make] of LAYERS) {
  const conv = !name.startsWith("Dense"), odd = /Dense|pointwise/.test(name);
  const kinds: Record<string, (layer: tf.layers.Layer) => Attached> = {
    lora: (layer) => lora[conv ? "conv" : "linear"](layer, 2, { alpha: 1 }),
    loha: (layer) => loha[conv ? "conv" : "linear"](layer, 2),
    lokr: (layer) => lokr[conv ? "conv" : "linear"](layer, 1),
    ia3: (layer) => ia3[conv ? "conv" : "linear"](layer),
    dylora: (layer) => dylora[conv ? "conv" : "linear"](layer, 4, { block: 2 }),
    full: (layer) => full[conv ? "conv" : "linear"](layer),
    oft: (layer) => oft[conv ? "conv" : "linear"](layer, 3, { rescaled: true }),
    glora: (layer) => glora[conv ? "conv" : "linear"](layer, 2, { alpha: 1 }),
    tlora: (layer) => tlora[conv ? "conv" : "linear"](layer, 2),
    // no butterfly has an odd number of outputs
    ...(!odd && { boft: (layer) => boft.conv(layer, 6) }),
  };
  for (const [algorithm, put] of Object.entries(kinds)) {
    layers(`${algorithm} on ${name}: born silent, merged equal, detached bit for bit`, () => {
      const layer = make(x), input = tensor(x, 1);
      const before = run(layer, input), weights = layer.getWeights().map(numbers);
      const first = put(layer);
      assert.equal(layer.getWeights().map(numbers).slice(0, weights.length), weights);
      close(run(layer, input), before);
      train(first.adapter);
      first.strength = 0.7;
      const adapted = run(layer, input);
      assert.throws(() => close(adapted, before));
      const kept = first.detach({ keep: true })!;
      assert.equal(numbers(run(layer, input)), numbers(before));
      assert.equal(layer.getWeights().map(numbers), weights);

      const second = attach(layer, kept, { strength: 0.7 });
      close(run(layer, input), adapted);
      second.merge();
      close(run(layer, input), adapted);
      dispose(kept);
      layer.dispose();
    });
  }
}

layers("several adapters stack, each told from the layer's own kernel", () => {
  const layer = tf.layers.conv2d({ filters: 6, kernelSize: 3 }), x = tensor([1, 6, 6, 3], 1);
  const before = run(layer, x);
  const one = lora.conv(layer, 2), two = lokr.conv(layer, 1), three = ia3.conv(layer);
  for (const { adapter } of [one, two, three]) train(adapter);
  const all = run(layer, x);
  const alone = [one, two, three].map((attached) => {
    for (const each of [one, two, three]) each.strength = each === attached ? 1 : 0;
    return tf.sub(run(layer, x), before);
  });
  close(all, tf.add(before, tf.addN(alone)));
  two.detach();
  one.detach();
  assert.throws(() => one.detach(), /is detached once/);
  close(run(layer, x), tf.add(before, alone[2]), "value");
  three.detach();
  assert.equal(numbers(run(layer, x)), numbers(before));
  layer.dispose();
});

layers("refuses what it cannot do, and changes nothing", () => {
  const layer = tf.layers.conv2d({ name: "conv1", filters: 4, kernelSize: 3 });
  assert.throws(
    () => lora.conv(layer, 2),
    (error: Error) =>
      error instanceof TypeError && /"conv1" as it must be built/.test(error.message),
  );
  const x = tensor([1, 5, 5, 3], 1), before = run(layer, x);
  assert.throws(
    () => lora.conv(layer, 64),
    (error: Error) =>
      error instanceof RangeError &&
      /Cannot attach lora to "conv1" as rank must be <= 4 .*current rank is 64/.test(error.message),
  );
  assert.throws(() => lora.linear(layer, 2), /use lora.conv/);
  assert.throws(() => lora.conv(tf.layers.flatten(), 2), /its class must be one of Dense/);
  assert.throws(() => lora.conv(layer, 2.5), /rank must be a whole number/);
  assert.throws(
    () => lora.conv(layer, 2, { route: "fast" as "bypass" }),
    /route is bypass, rebuild, hybrid/,
  );
  assert.throws(() => oft.conv(layer, 2, { route: "hybrid" }), /use bypass or rebuild/);
  assert.throws(() => lora.conv(layer, 2, { block: 2 }), /current option is block/);
  assert.throws(
    () => lora.conv(layer, 2, { dropout: 1 }),
    /dropout must be at least 0 and below 1/,
  );
  const other = lora.create([3, 3, 3, 5], 2);
  assert.throws(() => attach(layer, other), /Cannot apply lora to a kernel 3×3×3×4/);
  dispose(other);
  assert.is(layer.trainableWeights.length, 2);
  assert.equal(numbers(run(layer, x)), numbers(before));

  const attached = lora.conv(layer, 2);
  assert.throws(() => lora.conv(layer, 2), /detach it first/);
  assert.is(layer.trainableWeights.length, 2);
  attached.detach();
  layer.dispose();
});

const embedding = () => tf.layers.embedding({ inputDim: 9, outputDim: 4 });
for (const [name, x, make] of [...LAYERS, ["Embedding", [3, 8], embedding] as typeof LAYERS[0]]) {
  layers(`on ${name} in use, W′ is kept and follows every change`, () => {
    const layer = make(x), input = name === "Embedding" ? tf.tensor2d([x]) : tensor(x, 1);
    run(layer, input);
    const kernel = layer.weights[0].read() as tf.Variable;
    const attached = lora[kernel.rank > 2 ? "conv" : "linear"](layer, 2);
    const passes = (change: () => void) => {
      tf.tidy(change);
      const [first, second, third] = [1, 2, 3].map(() => run(layer, input));
      close(second, first); // built, and
      close(third, first); // used once more
      return third;
    };
    const outputs = [
      passes(() => kernel.assign(tensor(kernel.shape, 2))),
      passes(() => train(attached.adapter)),
      passes(() => attached.strength = -0.5),
      passes(() => kernel.assign(tf.mul(kernel, 2))),
    ];
    outputs.slice(1).forEach((y, i) => assert.throws(() => close(y, outputs[i])));
    layer.dispose();
  });
}

layers("an adapter sits on a layer once", () => {
  const layer = tf.layers.dense({ units: 4 });
  run(layer, tf.ones([1, 3]));
  const value = lora.create([3, 4], 2), attached = attach(layer, value);
  assert.throws(() => attach(layer, value), /an adapter sits on a layer once/);
  const another = lora.create([3, 4], 2, { seed: 1 });
  attach(layer, another).detach();
  attached.detach();
  dispose(value);
  dispose(another);
  layer.dispose();
});

layers("dropouts act in training only, drawn from the seed", () => {
  const x = tensor([2, 6, 6, 3], 1);
  const outputs = [1, 1, 2].map((seed) => {
    const layer = tf.layers.conv2d({ filters: 8, kernelSize: 3, kernelInitializer: "ones" });
    run(layer, x);
    const attached = lora.conv(layer, 2, { rankDropout: 0.5, seed });
    (attached.adapter.factors.up as tf.Variable).assign(tf.ones([2, 8]));
    (attached.adapter.factors.down as tf.Variable).assign(tf.ones([3, 3, 3, 2]));
    const still = run(layer, x), moving = layer.apply(x, { training: true }) as tf.Tensor;
    const result = [numbers(still), numbers(moving)];
    attached.detach();
    layer.dispose();
    return result;
  });
  assert.not.equal(outputs[0][0], outputs[0][1]);
  assert.equal(outputs[0], outputs[1]);
  assert.not.equal(outputs[0][1], outputs[2][1]);
});

layers.run();
