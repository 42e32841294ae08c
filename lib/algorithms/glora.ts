/**
 * GLoRA: ΔW = A·W + B with A = downA · upA on the input channels and B = downB · upB a LoRA.
 *
 * Chavan et al., "One-for-All: Generalized LoRA for Parameter-Efficient Fine-tuning", arXiv 2306.07967, of whose
 * terms LyCORIS's `GLoRAModule` has these two: op(x; W′) = op(x + A(x); W) + B(x).
 */
import * as tf from "@tensorflow/tfjs";
import { convolve } from "../tensor/convolve.ts";
import type { Geometry } from "../tensor/geometry.ts";
import { inputs, outputs, type Shape, size, space } from "../tensor/shape.ts";
import type { Cost, CostOptions, InitOptions, Surroundings } from "./algorithm.ts";
import { needed } from "./base.ts";
import { kaiming } from "./birth.ts";
import { costOf, positions } from "./count.ts";
import * as lora from "./lora.ts";

/** `downA` `[I/G, r]`, `upA` `[r, I/G]`; `downB` `[...k, I/G, r]`, `upB` `[r, O]`. */
export type Factors = {
  readonly downA: tf.Tensor;
  readonly upA: tf.Tensor;
  readonly downB: tf.Tensor;
  readonly upB: tf.Tensor;
};

/** `upA`, `upB` from U(−1/√r, 1/√r), `downA`, `downB` zero (random too with `scalar`), so that ΔW = 0. */
export function init(
  shape: Shape,
  rank: number,
  { seed = 0, scalar = false }: InitOptions = {},
): Factors {
  const I = inputs(shape), O = outputs(shape), k = space(shape);
  const born = (shape: Shape, fan: number, name: string) =>
    scalar ? kaiming(shape, fan, seed, name) : tf.zeros([...shape]);
  return {
    downA: born([I, rank], I, "downA"),
    upA: kaiming([rank, I], rank, seed, "upA"),
    downB: born([...k, I, rank], I * size(k), "downB"),
    upB: kaiming([rank, O], rank, seed, "upB"),
  };
}

/** ΔW[·, j, o] = Σ_i (downA · upA)[j, i] W[·, i, o] + (downB · upB)[·, j, o]. */
export function delta({ downA, upA, downB, upB }: Factors, base?: tf.Tensor): tf.Tensor {
  const W = needed(base, "glora");
  return tf.tidy(() => {
    const [I, O] = W.shape.slice(-2), taps = tf.reshape(W, [-1, I, O]);
    const each = (factor: tf.Tensor) => tf.tile(tf.expandDims(factor), [taps.shape[0], 1, 1]);
    const mixed = tf.matMul(each(downA), tf.matMul(each(upA), taps)); // [k, I, r] · [k, r, O]
    return tf.add(tf.reshape(mixed, W.shape), lora.delta({ down: downB, up: upB }));
  });
}

/** op(A(x); W) + B(x): A mixes the channels of a group, at each place by itself, before the base moves over them. */
export function bypass(
  { downA, upA, downB, upB }: Factors,
  x: tf.Tensor,
  geometry: Geometry = {},
  { base }: Surroundings = {},
): tf.Tensor {
  const W = needed(base, "glora");
  return tf.tidy(() => {
    const places = tf.reshape(x, [-1, downA.shape[0]]); // [N·HW·G, I/G]
    const mixed = tf.reshape(tf.matMul(tf.matMul(places, downA), upA), x.shape);
    const added = lora.bypass({ down: downB, up: upB }, x, geometry);
    return tf.add(convolve(mixed, W, geometry), added);
  });
}

/** Parameters r·(2·I/G + k·I/G + O); the bypass runs the base once more. */
export function cost(shape: Shape, rank: number, options: CostOptions = {}): Cost {
  const I = inputs(shape), O = outputs(shape), k = size(space(shape));
  const { output, input } = positions(options), B = rank * (k * I + O);
  const activation = 2 * rank * I * input + (size(shape) + B) * output;
  return costOf(shape, options, 2 * rank * I + B, activation, 3 * rank * size(shape));
}
