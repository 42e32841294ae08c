/** Two small networks of tf.layers, and what tests of adapted models ask them. */
import * as tf from "@tensorflow/tfjs";
import { values } from "./geometries.ts";

/** A tensor of fixed values. */
export const tensor = (shape: readonly number[], seed: number) =>
  tf.tensor(values(shape, seed), [...shape]);
export const numbers = (x: tf.Tensor) => [...x.dataSync()];
export const predict = (model: tf.LayersModel, x: tf.Tensor) => model.predict(x) as tf.Tensor;

/** A kernel of each kind, and a normalization. */
export function network(): tf.LayersModel {
  const kernelInitializer = (seed: number) => tf.initializers.glorotNormal({ seed });
  return tf.sequential({
    layers: [
      tf.layers.conv2d({
        name: "conv1",
        inputShape: [6, 6, 2],
        filters: 6,
        kernelSize: 3,
        padding: "same",
        activation: "relu",
        kernelInitializer: kernelInitializer(1),
      }),
      tf.layers.batchNormalization({ name: "norm" }),
      tf.layers.depthwiseConv2d({
        name: "depth",
        kernelSize: 3,
        depthwiseInitializer: kernelInitializer(2),
      }),
      tf.layers.conv2d({
        name: "point",
        filters: 8,
        kernelSize: 1,
        kernelInitializer: kernelInitializer(3),
      }),
      tf.layers.flatten({ name: "flat" }),
      tf.layers.dense({
        name: "head",
        units: 3,
        activation: "softmax",
        kernelInitializer: kernelInitializer(4),
      }),
    ],
  });
}

/** A network whose layers are called as diffusers calls them. */
export function diffuser(): tf.LayersModel {
  const conv = (name: string, kernelSize: number) =>
    tf.layers.conv2d({ name, filters: 4, kernelSize, padding: "same" });
  return tf.sequential({
    layers: [
      tf.layers.inputLayer({ inputShape: [4, 4, 4] }),
      conv("conv_in", 3),
      conv("down_blocks.0.resnets.0.conv1", 3),
      conv("down_blocks.0.attentions.0.proj_in", 1),
      ...["to_q", "to_k", "to_v"].map((name) =>
        tf.layers.dense({
          name: `down_blocks.0.attentions.0.transformer_blocks.0.attn1.${name}`,
          units: 4,
        })
      ),
      tf.layers.dense({
        name: "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2",
        units: 4,
      }),
      conv("conv_out", 3),
    ],
  });
}
