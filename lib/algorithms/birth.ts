/** Random tensors that factors are born with: the same on every engine and runtime for a seed and a name. */
import * as tf from "@tensorflow/tfjs";
import { kaimingUniform, normal, subseed } from "../tensor/random.ts";
import type { Shape } from "../tensor/shape.ts";

/** U(−1/√fan, 1/√fan): PyTorch's `kaiming_uniform_(a=√5)`, with which LyCORIS starts. */
export function kaiming(shape: Shape, fan: number, seed: number, name: string): tf.Tensor {
  return tf.tensor(kaimingUniform(shape, fan, subseed(seed, name)), [...shape]);
}

/** N(0, std). */
export function gaussian(shape: Shape, std: number, seed: number, name: string): tf.Tensor {
  return tf.tensor(normal(shape, std, subseed(seed, name)), [...shape]);
}
