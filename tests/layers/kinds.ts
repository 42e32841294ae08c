/** Every algorithm on every kind of layer, on every engine: forward = merge = save → open → attach; and what is refused. */
import { readFileSync } from "node:fs";
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { attach, dispose, files } from "../../mod.ts";
import { type Adapter, type AdapterOptions, trained } from "../../lib/adapter/adapter.ts";
import { type AlgorithmName, rowOf } from "../../lib/algorithms/table.ts";
import * as engine from "../../lib/engines/engine.ts";
import { createFor } from "../../lib/layers/born.ts";
import { anatomy, kindOf, kinds, takes } from "../../lib/layers/host.ts";
import { attachedTo } from "../../lib/layers/site.ts";
import { close, leakless } from "../support/close.ts";
import { LAYERS, matrix, NAMES } from "../support/kinds.ts";
import { tensor } from "../support/trained.ts";

const numbers = (x: tf.Tensor) => [...x.dataSync()];

/** Every algorithm, at a rank that every kernel has and an alpha that is not the rank; LoRA by all its births. */
const ROWS: [name: AlgorithmName, rank: number, options: AdapterOptions][] = [
  ["lora", 2, { alpha: 1, init: "pissa" }],
  ["lora", 2, { alpha: 1, init: "olora" }],
  ["lora", 2, { alpha: 1, dora: "output" }],
  ...NAMES.map((name): [AlgorithmName, number, AdapterOptions] => {
    const { ranked, scaled } = rowOf(name);
    const rank = name === "boft" ? 4 : name === "lokr" ? 1 : ranked ? 2 : 0;
    return [name, rank, scaled ? { alpha: 3 } : {}];
  }),
];

/** A new adapter of a layer, as if trained. */
function train(adapter: Adapter): void {
  for (const [name, factor] of trained(adapter)) {
    const moved = tf.tidy(() => tf.add(factor, tf.mul(tensor(factor.shape, name.length), 0.3)));
    (factor as tf.Variable).assign(moved);
    moved.dispose();
  }
}

const present = (await engine.list()).filter(({ available }) => available === true);
for (const { name: engineName } of present) {
  const all = suite(`attach() on ${engineName}`);
  all.before(async () => void (await engine.use(engineName)));
  leakless(all);

  for (const [kind, [input, make]] of Object.entries(LAYERS)) {
    for (const [algorithm, rank, options] of ROWS) {
      if (!takes(kinds().get(kind)!, algorithm)) continue;
      const tolerance = algorithm.endsWith("oft") ? "rotation" : "value";
      const told = [algorithm, options.init, options.dora && "dora"].filter(Boolean).join(" ");
      all(`${told} on ${kind}: forward is merge is save, open, attach`, async () => {
        const layer = make(), x = input(), run = () => layer.apply(x) as tf.Tensor;
        const before = run(), weights = layer.getWeights().map(numbers);
        const value = createFor(layer, algorithm, rank, options), first = attach(layer, value);
        close(run(), before, "value", "as it was, at birth");
        train(first.adapter);
        const adapted = run();
        assert.throws(() => close(adapted, before));
        const loss = () => tf.sum(tf.square(layer.apply(x, { training: true }) as tf.Tensor));
        const { grads } = tf.variableGrads(loss as () => tf.Scalar);
        const names = trained(first.adapter).map(([, factor]) => (factor as tf.Variable).name);
        assert.equal(Object.keys(grads).filter((name) => !names.includes(name)), []);
        assert.ok(names.some((name) => tf.max(tf.abs(grads[name])).dataSync()[0] > 0));

        const kept = first.detach({ keep: true })!;
        assert.equal(numbers(run()), numbers(before));
        assert.equal(layer.getWeights().map(numbers), weights);
        const file = await files.open(await files.encode(new Map([["layer", kept]])));
        const back = attach(layer, file.adapters.get("layer")!);
        close(run(), adapted, tolerance, "opened again");
        back.merge();
        close(run(), adapted, tolerance, "merged");
        assert.is(attachedTo(layer).length, 0);
        for (const adapter of [value, kept, ...file.adapters.values()]) dispose(adapter);
        layer.dispose();
      });
    }
  }

  all("the gradients of a transposed 3D convolution are those of a bilinear function", () => {
    for (const [strides, padding] of [[1, "valid"], [2, "same"], [[1, 2, 3], "valid"]] as const) {
      const x = tensor([2, 3, 4, 3, 4], 1), kernel = tensor([2, 3, 2, 5, 4], 2);
      const places = [3, 4, 3].map((length, axis) => {
        const stride = Array.isArray(strides) ? strides[axis] : Number(strides);
        return padding === "same" ? length * stride : (length - 1) * stride + kernel.shape[axis];
      });
      const shape = [2, ...places, 5] as [number, number, number, number, number];
      const y = (x: tf.Tensor, kernel: tf.Tensor) =>
        tf.conv3dTranspose(
          x as tf.Tensor5D,
          kernel as tf.Tensor5D,
          shape,
          strides as number,
          padding,
        );
      const G = tensor(shape, 3), [dx, dW] = tf.grads(y)([x, kernel], G as tf.Tensor5D);
      const inner = (a: tf.Tensor, b: tf.Tensor) => tf.sum(tf.mul(a, b));
      const otherX = tensor(x.shape, 4), otherW = tensor(kernel.shape, 5);
      close(inner(dx, otherX), inner(G, y(otherX, kernel)), "gradient");
      close(inner(dW, otherW), inner(G, y(x, otherW)), "gradient");
    }
  });
  all.run();
}

const refused = suite("attach()");
leakless(refused);

refused("is tried on every class that takes adapters", () => {
  assert.equal(Object.keys(LAYERS), [...kinds().keys()]);
  for (const [name, [input, make]] of Object.entries(LAYERS)) {
    const layer = make();
    layer.apply(input());
    assert.is(layer.getClassName(), name);
    assert.is(kindOf(layer), kinds().get(name));
    layer.dispose();
  }
});

refused("has in README.md, where that tells which algorithm is for which layer, what is so", () => {
  const plain = (text: string) => text.replace(/ +/g, " ").replace(/-+/g, "-");
  const readme = plain(readFileSync(new URL("../../README.md", import.meta.url), "utf8"));
  if (!readme.includes("Conv3DTranspose |")) return;
  for (const line of matrix().split("\n")) assert.ok(readme.includes(plain(line)), line);
});

for (const [kind, [input, make]] of Object.entries(LAYERS)) {
  for (const algorithm of NAMES.filter((name) => !takes(kinds().get(kind)!, name))) {
    refused(`refuses ${algorithm} on ${kind}, and leaves it as it was`, () => {
      const layer = make(), x = input(), run = () => numbers(layer.apply(x) as tf.Tensor);
      const before = run(), { shape } = anatomy(layer);
      const other = tf.layers.dense({ units: 8 }), norm = tf.layers.layerNormalization({});
      for (const one of [other, norm]) one.apply(tf.ones([1, 6]));
      const value = createFor(algorithm === "norm" ? norm : other, algorithm, 4, {});
      assert.throws(
        () => attach(layer, value),
        new RegExp(
          `Cannot attach ${algorithm} to ".*" as norm is for normalizations, and they for norm`,
        ),
      );
      if (algorithm === "norm") {
        assert.throws(
          () => createFor(layer, algorithm, 0, {}),
          new RegExp(`normalization's \\[C\\]: current shape is ${shape.join("×")}`),
        );
      }
      assert.equal(run(), before);
      dispose(value);
      for (const one of [layer, other, norm]) one.dispose();
    });
  }
}

refused("refuses boft where the outputs have no even blocks of its size", () => {
  const dense = tf.layers.dense({ units: 6 });
  dense.apply(tf.ones([1, 4]));
  assert.throws(() => createFor(dense, "boft", 4, {}), /Cannot split 6 into even blocks/);
  dense.dispose();
});

refused("lets a frozen batch normalization go on by what it has learnt", () => {
  const layer = tf.layers.batchNormalization({}), x = tensor([4, 6], 1);
  layer.apply(x);
  const value = createFor(layer, "norm", 0, {}), attached = attach(layer, value);
  const weights = layer.getWeights().map(numbers);
  layer.apply(x, { training: true });
  assert.equal(layer.getWeights().map(numbers), weights);
  attached.detach();
  dispose(value);
  layer.dispose();
});

refused(
  "refuses a route that a layer which computes by itself does not have, or that is none",
  () => {
    const layer = tf.layers.separableConv2d({ filters: 4, kernelSize: 1 });
    const dense = tf.layers.dense({ units: 3 });
    layer.apply(tf.ones([1, 2, 2, 3]));
    dense.apply(tf.ones([1, 3]));
    const value = createFor(layer, "lora", 1, {}), other = createFor(dense, "lora", 1, {});
    assert.throws(() => attach(layer, value, { route: "bypass" }), /computes by itself, from W′/);
    assert.throws(() => attach(dense, other, { route: "fast" as "bypass" }), /route is fast/);
    for (const adapter of [value, other]) dispose(adapter);
    layer.dispose();
    dense.dispose();
  },
);

refused.run();
