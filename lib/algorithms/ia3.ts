/**
 * (IA)^3: ΔW = W ⊙ v, one number for each output channel, or for each input channel.
 *
 * Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning",
 * arXiv 2205.05638 (LyCORIS, `IA3Module`: v is stored as the difference from 1, and the bias is not scaled).
 */
import * as tf from "@tensorflow/tfjs";
import { convolve } from "../tensor/convolve.ts";
import type { Geometry } from "../tensor/geometry.ts";
import { inputs, outputs, type Shape, size } from "../tensor/shape.ts";
import type { Cost, CostOptions, InitOptions, Surroundings } from "./algorithm.ts";
import { divided, needed } from "./base.ts";
import { costOf, positions } from "./count.ts";

/** `vector` `[1, O]`, or `[I/G, 1]` when it scales the input: shaped so that it multiplies a kernel as it is. */
export type Factors = { readonly vector: tf.Tensor };

/** v = 0, so that ΔW = 0. There is no rank: it is read by no rule. */
export function init(shape: Shape, _rank = 0, { onInput = false }: InitOptions = {}): Factors {
  return { vector: tf.zeros(onInput ? [inputs(shape), 1] : [1, outputs(shape)]) };
}

const scalesInput = ({ vector }: Factors) => vector.shape[1] === 1 && vector.shape[0] !== 1;

/**
 * ΔW = W ⊙ v.
 *
 * @throws {TypeError} without the base kernel, which ΔW is a multiple of
 */
export function delta({ vector }: Factors, base?: tf.Tensor): tf.Tensor {
  return tf.mul(needed(base, "ia3"), vector);
}

/** op(x; W ⊙ v) = op(x; W) ⊙ v on the output (its bias aside), op(x ⊙ v; W) on the input. */
export function bypass(
  factors: Factors,
  x: tf.Tensor,
  geometry: Geometry = {},
  { base, output }: Surroundings = {},
): tf.Tensor {
  return tf.tidy(() => {
    const channels = tf.reshape(factors.vector, [-1]);
    if (!scalesInput(factors)) {
      return tf.mul(output ?? convolve(x, needed(base, "ia3"), geometry), channels);
    }
    const scaled = tf.mul(x, tf.tile(channels, [geometry.groups ?? 1]));
    return convolve(scaled, needed(base, "ia3"), geometry);
  });
}

/** Parameters O (or I/G); on the output one multiplication a number, on the input a second convolution. */
export function cost(shape: Shape, _rank = 0, options: CostOptions = {}): Cost {
  const { output, input } = positions(options), O = outputs(shape), I = inputs(shape);
  const { factors, onInput } = options;
  return (factors?.vector ? scalesInput({ vector: factors.vector }) : onInput)
    ? costOf(shape, options, I, I * input + size(shape) * output, size(shape))
    : costOf(shape, options, O, O * output, size(shape));
}

/** W = W′ ⊘ (1 + s · v). */
export function restore({ vector }: Factors, merged: tf.Tensor, strength: number): tf.Tensor {
  return tf.tidy(() => divided(merged, tf.add(tf.mul(vector, strength), 1), "ia3"));
}
