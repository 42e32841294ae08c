/** A layer of every kind that takes adapters, and which of them it takes. */
import * as tf from "@tensorflow/tfjs";
import { type AlgorithmName, ALGORITHMS } from "../../lib/algorithms/table.ts";
import { groupConv2d } from "../../lib/layers/group_conv.ts";
import { adaptable, kinds, takes } from "../../lib/layers/host.ts";
import { tensor } from "./trained.ts";

/** A layer of a class of one's own: it turns its input by a matrix and multiplies it by what it was. */
class Gated extends tf.layers.Layer {
  static className = "Gated";
  kernel!: tf.LayerVariable;
  override build(inputShape: tf.Shape): void {
    const shape = [inputShape.at(-1)!, inputShape.at(-1)!];
    const initializer = tf.initializers.glorotNormal({ seed: 3 });
    this.kernel = this.addWeight("kernel", shape, "float32", initializer);
    this.built = true;
  }
  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    const x = Array.isArray(inputs) ? inputs[0] : inputs;
    return tf.mul(x, tf.dot(x, this.kernel.read()));
  }
}
adaptable("Gated", { family: "linear", kernel: "kernel" });

const filters = 8, padding = "same", strides = 2;

/** Its input and the layer, by the name of its class. */
export const LAYERS: Record<string, [x: () => tf.Tensor, make: () => tf.layers.Layer]> = {
  Dense: [() => tensor([3, 6], 1), () => tf.layers.dense({ units: 8, activation: "tanh" })],
  Conv1D: [
    () => tensor([2, 9, 4], 1),
    () => tf.layers.conv1d({ filters, kernelSize: 3, strides, padding, activation: "relu" }),
  ],
  Conv2D: [
    () => tensor([2, 5, 6, 4], 1),
    () => tf.layers.conv2d({ filters, kernelSize: [3, 2], strides, padding, activation: "elu" }),
  ],
  Conv3D: [
    () => tensor([1, 4, 5, 4, 2], 1),
    () => tf.layers.conv3d({ filters, kernelSize: 2, padding }),
  ],
  GroupConv2D: [
    () => tensor([2, 5, 5, 6], 1),
    () => groupConv2d({ filters, kernelSize: 3, groups: 2, activation: "relu" }),
  ],
  DepthwiseConv2D: [
    () => tensor([2, 5, 5, 4], 1),
    () => tf.layers.depthwiseConv2d({ kernelSize: 3, depthMultiplier: 2, activation: "sigmoid" }),
  ],
  SeparableConv2D: [
    () => tensor([2, 6, 5, 3], 1),
    () => tf.layers.separableConv2d({ filters, kernelSize: 3, depthMultiplier: 2 }),
  ],
  Conv2DTranspose: [
    () => tensor([2, 4, 5, 6], 1),
    () => tf.layers.conv2dTranspose({ filters, kernelSize: 3, strides, padding }),
  ],
  Conv3DTranspose: [
    () => tensor([1, 3, 2, 3, 6], 1),
    () =>
      tf.layers.conv3dTranspose({ filters, kernelSize: 2, strides, padding }) as tf.layers.Layer,
  ],
  Embedding: [
    () => tf.tensor([[0, 3, 3], [7, 1, 2]], [2, 3], "int32"),
    () => tf.layers.embedding({ inputDim: 9, outputDim: 8 }),
  ],
  LayerNormalization: [() => tensor([4, 6], 1), () => tf.layers.layerNormalization({})],
  BatchNormalization: [() => tensor([4, 6], 1), () => tf.layers.batchNormalization({})],
  Gated: [() => tensor([4, 8], 1), () => new Gated({})],
};

export const NAMES = Object.keys(ALGORITHMS) as AlgorithmName[];

/** Which algorithm can be on which layer, as a table of Markdown: layers down, algorithms across. */
export function matrix(): string {
  const row = (cells: string[]) => `| ${cells.join(" | ")} |`;
  const lines = [...kinds()].map(([name, kind]) => {
    const own = name === "Gated" ? "a class of one's own, by `adaptable`" : name;
    return row([own, ...NAMES.map((algorithm) => takes(kind, algorithm) ? "✓" : "")]);
  });
  const heads = row(["", ...NAMES.map((name) => `\`${name}\``)]);
  return [heads, row(["---", ...NAMES.map(() => ":-:")]), ...lines].join("\n");
}

if (import.meta.main) console.log(matrix());
