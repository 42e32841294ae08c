/**
 * OFT: W′ = W · diag(R₁, …, Rₙ), the output channels rotated in blocks, R = (I + Q)(I − Q)⁻¹ with Q = B − Bᵀ.
 *
 * Qiu et al., "Controlling Text-to-Image Diffusion by Orthogonal Finetuning", arXiv 2306.07280 (LyCORIS,
 * `DiagOFTModule`; its Rᵀ multiplies PyTorch's rows from the left, which here is R from the right).
 *
 * Strength interpolates the rotation, as in LyCORIS: R_s = s (R − I) + I. That is a rotation at s = 0 and s = 1 only:
 * between, where R turns by an angle φ, R_s shortens lengths by √(1 − 4s(1 − s) sin²(φ/2)), and beyond it lengthens
 * them. `rescale` is not interpolated: at s = 0 an OFT with it is W ⊙ rescale, not W.
 */
import * as tf from "@tensorflow/tfjs";
import { apart, together } from "../tensor/apart.ts";
import { between, cayley, inverseBetween, skew } from "../tensor/cayley.ts";
import { convolve } from "../tensor/convolve.ts";
import type { Geometry } from "../tensor/geometry.ts";
import { factorPair } from "../tensor/kronecker.ts";
import { outputs, type Shape, size } from "../tensor/shape.ts";
import type { Cost, CostOptions, InitOptions, Surroundings } from "./algorithm.ts";
import { divided, needed } from "./base.ts";
import { costOf, positions } from "./count.ts";

/**
 * `blocks` B `[n, b, b]` with n·b = O, `rescale` `[O]`.
 *
 * `mask` `[n, b, b]` belongs to one pass: what R is multiplied by (rank dropout).
 */
export type Factors = {
  readonly blocks: tf.Tensor;
  readonly rescale?: tf.Tensor;
  readonly mask?: tf.Tensor;
};

/**
 * B = 0, so that R = I; `rescale` 1.
 *
 * Rank is the wanted size of a block. O splits as LyCORIS's `factorization` does, b the smaller part: rank 8
 * on O = 16 gives 8 blocks of 2, and a prime O gives blocks of 1, which cannot turn.
 */
export function init(shape: Shape, rank: number, { rescaled = false }: InitOptions = {}): Factors {
  const O = outputs(shape), [b, n] = factorPair(O, rank);
  return { blocks: tf.zeros([n, b, b]), ...(rescaled && { rescale: tf.ones([O]) }) };
}

/** ΔW = W′ − W at strength 1. */
export function delta(factors: Factors, base?: tf.Tensor): tf.Tensor {
  const W = needed(base, "oft");
  return tf.tidy(() => tf.sub(adapt(factors, W, 1), W));
}

/**
 * op(x; W′ − W) = op(x; W) · (R_s − I): channels are turned after the convolution, and W′ is never built.
 *
 * The bias is not turned, as when W′ is built (LyCORIS's bypass mode turns it, its bug B11). Where a block reaches over
 * two groups, whose outputs read different inputs, W′ is built.
 */
export function bypass(
  factors: Factors,
  x: tf.Tensor,
  geometry: Geometry = {},
  { base, output, strength = 1 }: Surroundings = {},
): tf.Tensor {
  return tf.tidy(() => {
    const { groups = 1 } = geometry, [n, b] = factors.blocks.shape;
    if (n * b / groups % b !== 0) {
      const W = needed(base, "oft");
      return convolve(x, tf.sub(adapt(factors, W, strength), W), geometry);
    }
    const y = output ?? convolve(x, needed(base, "oft"), geometry);
    return tf.sub(adapt(factors, y, strength), y);
  });
}

/** Parameters n·b² (and O): solving for R takes n·b³, turning b a number. */
export function cost(shape: Shape, rank: number, options: CostOptions = {}): Cost {
  const O = outputs(shape), { factors } = options;
  const b = factors?.blocks ? outputs(factors.blocks.shape) : factorPair(O, rank)[0];
  const rescales = factors?.rescale || options.rescaled ? O : 0, solve = O * b * b;
  const activation = solve + (O * b + rescales) * positions(options).output;
  return costOf(shape, options, O * b + rescales, activation, solve + size(shape) * b);
}

/** W′ = (W · diag(R_s)) ⊙ rescale; the same for outputs, whose last axis is O too. */
export function adapt(
  { blocks, rescale, mask }: Factors,
  base: tf.Tensor,
  strength: number,
): tf.Tensor {
  return tf.tidy(() => {
    const R = cayley(skew(blocks)), kept = mask ? tf.mul(R, mask) : R;
    const turned = turn(base, between(kept, strength));
    return rescale ? tf.mul(turned, rescale) : turned;
  });
}

/** W = (W′ ⊘ rescale) · diag(R_s⁻¹). */
export function restore(
  { blocks, rescale }: Factors,
  merged: tf.Tensor,
  strength: number,
): tf.Tensor {
  return tf.tidy(() => {
    const turned = rescale ? divided(merged, rescale, "oft") : merged;
    return turn(turned, inverseBetween(skew(blocks), strength));
  });
}

/** The last axis in n runs of b, each times its block of `[n, b, b]`. */
function turn(y: tf.Tensor, R: tf.Tensor): tf.Tensor {
  return together(tf.matMul(apart(y, R.shape[0]), R), y.shape);
}

/**
 * Blocks with ‖Q‖ ≤ limit: B · min(1, limit / ‖Q‖) with one norm over all blocks, as LyCORIS's `constraint` has it,
 * where the limit is `constraint` times O. Differentiable.
 */
export function constrain(blocks: tf.Tensor, limit: number): tf.Tensor {
  return tf.tidy(() => {
    // the root of a bare zero has no gradient
    const length = tf.sqrt(tf.add(tf.sum(tf.square(skew(blocks))), 1e-16));
    return tf.mul(blocks, tf.minimum(tf.div(limit, length), 1));
  });
}
