/**
 * Full: ΔW itself, and Δb where the layer has a bias: W′ = W + s · difference, b′ = b + s · bias.
 *
 * What fine-tuning without an adapter trains (LyCORIS, `FullModule`, and the `diff` keys of an extraction); here so
 * that layers which no low rank fits can be trained and stored beside the others.
 */
import * as tf from "@tensorflow/tfjs";
import { convolve } from "../tensor/convolve.ts";
import type { Geometry } from "../tensor/geometry.ts";
import { outputs, type Shape, size } from "../tensor/shape.ts";
import type { Cost, CostOptions, InitOptions } from "./algorithm.ts";
import { costOf, positions } from "./count.ts";

/** `difference` of the kernel's shape, `bias` `[O]`. */
export type Factors = { readonly difference: tf.Tensor; readonly bias?: tf.Tensor };

/** Zeros. There is no rank: it is read by no rule. */
export function init(shape: Shape, _rank = 0, { bias = false }: InitOptions = {}): Factors {
  return {
    difference: tf.zeros([...shape]),
    ...(bias && { bias: tf.zeros([outputs(shape)]) }),
  };
}

/** ΔW = difference. */
export function delta({ difference }: Factors): tf.Tensor {
  return tf.clone(difference);
}

/** op(x; difference), a second convolution; the bias is not part of it. */
export function bypass(
  { difference }: Factors,
  x: tf.Tensor,
  geometry: Geometry = {},
): tf.Tensor {
  return convolve(x, difference, geometry);
}

/** Parameters k·I/G·O, and O with a bias: nothing is saved but the building of ΔW. */
export function cost(shape: Shape, _rank = 0, options: CostOptions = {}): Cost {
  const biases = options.factors?.bias || options.bias ? outputs(shape) : 0;
  const activation = size(shape) * positions(options).output;
  return costOf(shape, options, size(shape) + biases, activation, 0);
}

/** The difference as `down · up` of the lesser of its two sides' ranks, without arithmetic. */
export function lowRank({ difference }: Factors): { down: tf.Tensor; up: tf.Tensor } {
  const { shape } = difference, O = outputs(shape), rows = size(shape) / O;
  if (O <= rows) return { down: tf.clone(difference), up: tf.eye(O) };
  return tf.tidy(() => ({
    down: tf.reshape(tf.eye(rows), [...shape.slice(0, -1), rows]),
    up: tf.reshape(difference, [rows, O]),
  }));
}
