/**
 * BOFT: W′ = W · B₁ · … · B_m, each B an OFT of channels taken in another order, so that all of them mix.
 *
 * Liu et al., "Parameter-Efficient Orthogonal Finetuning via Butterfly Factorization", arXiv 2311.06243 (LyCORIS,
 * `ButterflyOFTModule`; its R multiplies PyTorch's rows from the left, which here is Rᵀ from the right, where OFT's
 * is R).
 *
 * Strength interpolates every stage, R_s = s (R − I) + I; what `oft.ts` says of lengths between s = 0 and s = 1, and of
 * `rescale`, holds for each.
 */
import * as tf from "@tensorflow/tfjs";
import { between, cayley, inverseBetween, skew } from "../tensor/cayley.ts";
import { convolve } from "../tensor/convolve.ts";
import type { Geometry } from "../tensor/geometry.ts";
import { powerOfTwoPair } from "../tensor/kronecker.ts";
import { outputs, type Shape, size } from "../tensor/shape.ts";
import type { Cost, CostOptions, InitOptions, Surroundings } from "./algorithm.ts";
import { divided, needed } from "./base.ts";
import { costOf, positions } from "./count.ts";

/** `blocks` `[m, n, b, b]` with n·b = O, n = 2^(m − 1); `rescale` `[O]`. */
export type Factors = { readonly blocks: tf.Tensor; readonly rescale?: tf.Tensor };

/**
 * B = 0, so that every R = I; `rescale` 1.
 *
 * Rank is the largest size of a block: b is the largest even number up to it of which O is a power of two times.
 *
 * @throws {RangeError} when there is none, as for every odd O
 */
export function init(shape: Shape, rank: number, { rescaled = false }: InitOptions = {}): Factors {
  const O = outputs(shape), [b, n] = powerOfTwoPair(O, rank);
  return {
    blocks: tf.zeros([Math.log2(n) + 1, n, b, b]),
    ...(rescaled && { rescale: tf.ones([O]) }),
  };
}

/** Whether a kernel has such blocks: whether the smallest even one is no larger than the rank. */
export function fits(shape: Shape, rank: number): boolean {
  let b = outputs(shape);
  while (b % 4 === 0) b /= 2;
  return b % 2 === 0 && b <= rank;
}

/** ΔW = W′ − W at strength 1. */
export function delta(factors: Factors, base?: tf.Tensor): tf.Tensor {
  const W = needed(base, "boft");
  return tf.tidy(() => tf.sub(adapt(factors, W, 1), W));
}

/** op(x; W′ − W): channels are turned after the convolution, its bias aside, as in OFT; under groups W′ is built. */
export function bypass(
  factors: Factors,
  x: tf.Tensor,
  geometry: Geometry = {},
  { base, output, strength = 1 }: Surroundings = {},
): tf.Tensor {
  return tf.tidy(() => {
    if ((geometry.groups ?? 1) > 1) {
      const W = needed(base, "boft");
      return convolve(x, tf.sub(adapt(factors, W, strength), W), geometry);
    }
    const y = output ?? convolve(x, needed(base, "boft"), geometry);
    return tf.sub(adapt(factors, y, strength), y);
  });
}

/** Parameters m·n·b² (and O): each stage costs what an OFT does. */
export function cost(shape: Shape, rank: number, options: CostOptions = {}): Cost {
  const O = outputs(shape), { factors } = options;
  const b = factors?.blocks ? outputs(factors.blocks.shape) : powerOfTwoPair(O, rank)[0];
  const rescales = factors?.rescale || options.rescaled ? O : 0;
  const m = Math.log2(O / b) + 1, solve = m * O * b * b;
  const activation = solve + (m * O * b + rescales) * positions(options).output;
  return costOf(shape, options, m * O * b + rescales, activation, solve + m * size(shape) * b);
}

/** W′ = (W · B₁ · … · B_m) ⊙ rescale at strength s; the same for outputs, whose last axis is O too. */
export function adapt(
  { blocks, rescale }: Factors,
  base: tf.Tensor,
  strength: number,
): tf.Tensor {
  return tf.tidy(() => {
    const stages = stagesOf(between(cayley(skew(blocks)), strength));
    const turned = stages.reduce((y, R, stage) => turn(y, R, stage), base);
    return rescale ? tf.mul(turned, rescale) : turned;
  });
}

/** W = (W′ ⊘ rescale) · B_m⁻¹ · … · B₁⁻¹. */
export function restore(
  { blocks, rescale }: Factors,
  merged: tf.Tensor,
  strength: number,
): tf.Tensor {
  return tf.tidy(() => {
    const stages = stagesOf(inverseBetween(skew(blocks), strength));
    const turned = rescale ? divided(merged, rescale, "boft") : merged;
    return stages.reduceRight((y, R, stage) => turn(y, R, stage), turned);
  });
}

/** `[m, n, b, b]` as m of `[n, b, b]`; TensorFlow.js's unstack has no gradient where m is 1. */
function stagesOf(R: tf.Tensor): tf.Tensor[] {
  const [m, n, b] = R.shape, apart = tf.reshape(R, [m * n, b, b]);
  return Array.from({ length: m }, (_, stage) => tf.slice(apart, stage * n, n));
}

/**
 * The last axis in butterfly order, n runs of b, each times its Rᵀ, and back in its own order.
 *
 * With k = 2^stage · b/2 the channels stand in pairs of k neighbours, (c, 2, k), and a run takes them as
 * (c, k, 2): from the first k, from the second k, in turn.
 */
function turn(y: tf.Tensor, R: tf.Tensor, stage: number): tf.Tensor {
  const [n, b] = R.shape, runs = 2 ** stage, c = n / runs, half = b / 2;
  const split = tf.reshape(y, [-1, c, 2, runs, half]);
  const gathered = tf.reshape(tf.transpose(split, [1, 3, 0, 4, 2]), [n, -1, b]); // [n, P, b/2 · 2]
  const turned = tf.reshape(tf.matMul(gathered, R, false, true), [c, runs, -1, half, 2]);
  return tf.reshape(tf.transpose(turned, [2, 0, 4, 1, 3]), y.shape);
}
