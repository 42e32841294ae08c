/** The small network of the demo and the first notebooks: three convolutions, then two dense layers. */
import * as tf from "@tensorflow/tfjs";
import { subseed } from "../tensor/random.ts";

/** What {@link convnet} may be told. */
export interface ConvnetOptions {
  /** how many logits; 10 unless told */
  classes?: number;
  /** of all weights; 0 unless told */
  seed?: number;
}

/**
 * Images `[N, 28, 28, 1]` → logits `[N, classes]`: `conv1 conv2 conv3 hidden head`, 89,802 parameters.
 *
 * Strides take the place of pooling, whose gradient costs more than the convolutions here. 0.6 million
 * multiply-adds an image: 600 steps of 64 images at a rate of 0.008 reach 98.2 % of MNIST.
 */
export function convnet({ classes = 10, seed = 0 }: ConvnetOptions = {}): tf.Sequential {
  const { heNormal, glorotNormal } = tf.initializers;
  const rectified = (name: string) => ({
    name,
    activation: "relu" as const,
    kernelInitializer: heNormal({ seed: subseed(seed, name) }),
  });
  const halving = { strides: 2, padding: "same" as const };
  return tf.sequential({
    layers: [
      tf.layers.conv2d({
        ...rectified("conv1"),
        ...halving,
        filters: 16,
        kernelSize: 5,
        inputShape: [28, 28, 1],
      }), // [14, 14, 16]
      tf.layers.conv2d({ ...rectified("conv2"), ...halving, filters: 32, kernelSize: 3 }), // [7, 7, 32]
      tf.layers.conv2d({ ...rectified("conv3"), ...halving, filters: 64, kernelSize: 3 }), // [4, 4, 64]
      tf.layers.flatten({ name: "flat" }), // [1024]
      tf.layers.dense({ ...rectified("hidden"), units: 64 }),
      tf.layers.dense({
        name: "head",
        units: classes,
        kernelInitializer: glorotNormal({ seed: subseed(seed, "head") }),
      }),
    ],
  });
}
