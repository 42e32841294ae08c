/** Layers that compute by themselves, from W′ in the place of their kernel. */
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  adaptable,
  attach,
  dispose,
  files,
  ia3,
  loha,
  lokr,
  lora,
  merge,
  norm,
  oft,
} from "../../mod.ts";
import { attachedTo } from "../../lib/layers/site.ts";
import { close, leakless } from "../support/close.ts";
import { values } from "../support/geometries.ts";

const tensor = (shape: readonly number[], seed: number) =>
  tf.tensor(values(shape, seed), [...shape]);
const numbers = (x: tf.Tensor) => [...x.dataSync()];

/** A layer of another class than those of tf.layers: a convolution in two groups. */
class GroupConv extends tf.layers.Layer {
  static className = "GroupConv";
  kernel!: tf.LayerVariable;
  override build(): void {
    this.kernel = this.addWeight(
      "kernel",
      [3, 3, 2, 6],
      "float32",
      tf.initializers.glorotNormal({ seed: 3 }),
    );
    this.built = true;
  }
  override computeOutputShape([N, H, W]: number[]): number[] {
    return [N, H - 2, W - 2, 6];
  }
  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    const x = Array.isArray(inputs) ? inputs[0] : inputs;
    const halves = tf.split(x, 2, -1), kernels = tf.split(this.kernel.read(), 2, -1);
    return tf.concat(
      halves.map((half, g) =>
        tf.conv2d(half as tf.Tensor4D, kernels[g] as tf.Tensor4D, 1, "valid")
      ),
      -1,
    );
  }
}
tf.serialization.registerClass(GroupConv);
adaptable("GroupConv", { family: "conv", kernel: "kernel" });

const LAYERS: [name: string, x: () => tf.Tensor, make: () => tf.layers.Layer][] = [
  [
    "SeparableConv2D",
    () => tensor([2, 6, 6, 3], 1),
    () =>
      tf.layers.separableConv2d({
        filters: 8,
        kernelSize: 3,
        depthMultiplier: 2,
        activation: "relu",
      }),
  ],
  [
    "Conv2DTranspose",
    () => tensor([2, 4, 5, 6], 1),
    () => tf.layers.conv2dTranspose({ filters: 4, kernelSize: 3, strides: 2, padding: "same" }),
  ],
  [
    "Embedding",
    () => tf.tensor([[0, 3, 3], [7, 1, 2]], [2, 3], "int32"),
    () => tf.layers.embedding({ inputDim: 8, outputDim: 6 }),
  ],
  ["a layer of one's own", () => tensor([2, 5, 5, 4], 1), () => new GroupConv({})],
];

const kinds = suite("attach() on layers that compute by themselves");
leakless(kinds);

for (const [name, input, make] of LAYERS) {
  for (
    const [algorithm, create] of Object.entries({
      lora: (shape: readonly number[]) => lora.create(shape, 2, { alpha: 1 }),
      loha: (shape: readonly number[]) => loha.create(shape, 2),
      lokr: (shape: readonly number[]) => lokr.create(shape, 1),
      ia3: (shape: readonly number[]) => ia3.create(shape),
      oft: (shape: readonly number[]) => oft.create(shape, 2),
    })
  ) {
    kinds(
      `${algorithm} on ${name}: forward is merge is save, open, attach; detach gives all back`,
      async () => {
        const layer = make(), x = input(), run = () => layer.apply(x) as tf.Tensor;
        const before = run(), weights = layer.getWeights().map(numbers);
        const shapes: Record<string, number[]> = {
          SeparableConv2D: [1, 1, 6, 8],
          Conv2DTranspose: [3, 3, 6, 4],
          Embedding: [8, 6],
          "a layer of one's own": [3, 3, 2, 6],
        };
        const value = create(shapes[name]), first = attach(layer, value);
        close(run(), before);
        for (const [i, factor] of Object.values(first.adapter.factors).entries()) {
          (factor as tf.Variable).assign(tf.mul(tensor(factor!.shape, i + 3), 0.5));
        }
        const adapted = run();
        assert.throws(() => close(adapted, before));
        const gradients = tf.variableGrads(() => tf.sum(tf.square(run())) as tf.Scalar);
        assert.ok(Object.values(gradients.grads).some((g) => tf.max(tf.abs(g)).dataSync()[0] > 0));

        const kept = first.detach({ keep: true })!;
        assert.equal(numbers(run()), numbers(before));
        assert.equal(layer.getWeights().map(numbers), weights);
        const file = await files.open(await files.encode(new Map([["layer", kept]])));
        const back = attach(layer, file.adapters.get("layer")!);
        close(run(), adapted);
        back.merge();
        close(run(), adapted);
        assert.is(attachedTo(layer).length, 0);
        for (const adapter of [value, kept, ...file.adapters.values()]) dispose(adapter);
        layer.dispose();
      },
    );
  }
}

for (
  const [name, make] of Object.entries({
    LayerNormalization: () => tf.layers.layerNormalization({}),
    BatchNormalization: () => tf.layers.batchNormalization({}),
  })
) {
  kinds(`norm on ${name}: γ′ and β′ are used, merged and given back`, () => {
    const layer = make(), x = tensor([4, 6], 1), run = () => layer.apply(x) as tf.Tensor;
    const before = run(), weights = layer.getWeights().map(numbers);
    const value = norm.create([6], { bias: true }), attached = attach(layer, value);
    close(run(), before);
    (attached.adapter.factors.difference as tf.Variable).assign(tensor([6], 2));
    (attached.adapter.factors.bias as tf.Variable).assign(tensor([6], 3));
    const expected = tf.add(tf.add(before, tf.mul(before, tensor([6], 2))), tensor([6], 3));
    close(run(), expected);
    close(merge(tf.ones([6]), attached.adapter), tf.add(1, tensor([6], 2)));
    layer.apply(x, { training: true });
    attached.strength = 0;
    close(run(), before);
    attached.detach();
    assert.equal(layer.getWeights().map(numbers), weights);
    dispose(value);
    layer.dispose();
  });
}

kinds("kernels are for lora and its like, normalizations for norm", () => {
  const layer = tf.layers.layerNormalization({}), dense = tf.layers.dense({ units: 3 });
  layer.apply(tf.ones([1, 3]));
  dense.apply(tf.ones([1, 3]));
  const value = norm.create([3]), other = lora.create([3, 3], 1);
  assert.throws(() => attach(dense, value), /norm is for normalizations/);
  assert.throws(() => attach(layer, other), /norm is for normalizations/);
  assert.throws(() => attach(dense, other, { route: "fast" as "bypass" }), /route is bypass/);
  dispose(value);
  dispose(other);
  layer.dispose();
  dense.dispose();
});
kinds.run();
