/**
 * Norm: the same for a normalization's two vectors, γ′ = γ + s · difference, β′ = β + s · bias.
 *
 * LyCORIS, `NormModule` (`train_norm`), for layer and group normalization and whatever ends in x̂ ⊙ γ + β. The kernel
 * is the vector γ `[C]`, and its input is x̂, what the layer has normalized.
 */
import * as tf from "@tensorflow/tfjs";
import { type Shape, show } from "../tensor/shape.ts";
import type { Cost, CostOptions, InitOptions } from "./algorithm.ts";
import * as full from "./full.ts";

/** `difference` and `bias` `[C]`; `bias` where the layer has β. */
export type Factors = full.Factors;

/**
 * Zeros.
 *
 * @throws {TypeError} for a kernel that is no vector
 */
export function init(shape: Shape, rank = 0, options: InitOptions = {}): Factors {
  if (shape.length !== 1) {
    throw new TypeError(
      `Cannot create norm as the kernel is a normalization's [C]: current shape is ${show(shape)}`,
    );
  }
  return full.init(shape, rank, options);
}

/** Δγ = difference. */
export function delta(factors: Factors): tf.Tensor {
  return full.delta(factors);
}

/** x̂ ⊙ Δγ. */
export function bypass({ difference }: Factors, x: tf.Tensor): tf.Tensor {
  return tf.mul(x, difference);
}

/** Parameters C, and C with a bias. */
export function cost(shape: Shape, rank = 0, options: CostOptions = {}): Cost {
  return full.cost(shape, rank, options);
}
