/** Adapters in the form of one LoRA. */
import * as tf from "@tensorflow/tfjs";
import { rowOf } from "../algorithms/table.ts";
import * as dylora from "../algorithms/dylora.ts";
import { type Adapter, scale } from "./adapter.ts";

/** Whether an adapter is a down · up and no more: without the base, without a bias. */
export function hasLowRankForm({ algorithm, dora, factors: { bias } }: Adapter): boolean {
  return rowOf(algorithm).lowRank !== undefined && !dora && !bias;
}

/**
 * `down` `[...k, I/G, R]` and `up` `[R, O]` with down · up = ΔW, exactly and unscaled, whatever the algorithm: R is r for
 * LoRA and DyLoRA, r² for LoHa, rank(w1) · rank(w2) for LoKr.
 *
 * W′ = W + s · scale · down · up, with the adapter's own `scale` (and its `scalar`, where it has one).
 *
 * @returns new tensors, the caller's
 * @throws {TypeError} for (IA)^3 and DoRA, whose ΔW depends on the base
 */
export function lowRankForm(adapter: Adapter): { down: tf.Tensor; up: tf.Tensor } {
  const { lowRank } = rowOf(adapter.algorithm);
  if (!lowRank || adapter.dora) {
    throw new TypeError(
      `Cannot write ${adapter.algorithm}${
        adapter.dora ? " with dora" : ""
      } as down · up as its ΔW must not ` +
        "depend on the base kernel: merge it into the base instead",
    );
  }
  return tf.tidy(() => lowRank(adapter.factors));
}

/** {@link lowRankForm} with `scale` and `scalar` multiplied in: down · up is what the adapter adds at strength 1. */
export function foldedForm(adapter: Adapter): { down: tf.Tensor; up: tf.Tensor } {
  return tf.tidy(() => {
    const { down, up } = lowRankForm(adapter), { scalar } = adapter.factors, f = scale(adapter);
    const scaled = f === 1 ? up : tf.mul(up, f);
    return { down, up: scalar ? tf.mul(scaled, scalar) : scaled };
  });
}

/**
 * The LoRA that a DyLoRA is at a smaller rank: its first b ranks, at the scale that training had there.
 *
 * DyLoRA's scale at n blocks is α/n = (α · block)/b, so the LoRA's alpha is α · block at every b.
 *
 * @param b a multiple of the block, at most the rank
 * @returns an adapter with tensors of its own
 * @throws {TypeError} for another algorithm
 * @throws {RangeError} for another b
 */
export function truncate(adapter: Adapter, b: number): Adapter {
  const { algorithm, factors, rank, block = 1, alpha } = adapter;
  if (algorithm !== "dylora") {
    throw new TypeError(
      `Cannot truncate ${algorithm} as its ranks must be in order of use, as dylora trains them: resize it`,
    );
  }
  if (!Number.isInteger(b / block) || b < block || b > rank) {
    throw new RangeError(
      `Cannot truncate dylora to ${b} as it must be a multiple of its block ${block} up to ${rank}: ` +
        `current rank is ${b}`,
    );
  }
  const { block: _block, ...rest } = adapter;
  return {
    ...rest,
    algorithm: "lora",
    rank: b,
    alpha: alpha * block,
    factors: dylora.join(dylora.narrow(factors as dylora.Factors, b / block)),
  };
}
