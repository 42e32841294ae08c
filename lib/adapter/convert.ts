/** The same ΔW in another algorithm's factors, where that is exact. */
import * as tf from "@tensorflow/tfjs";
import { type AlgorithmName, rowOf } from "../algorithms/table.ts";
import { tidy } from "../tensor/tidy.ts";
import { type Adapter, copy, scale } from "./adapter.ts";

/**
 * The adapter as a LoRA of the same W′ at every strength: LoHa at rank r², LoKr at rank(w1) · rank(w2), a Tucker core
 * multiplied into `down`, DyLoRA's blocks side by side, a LoRA born from the base with that birth beside it. Scale, scalar, magnitude and dropouts stay.
 *
 * No other direction is exact: {@link extract} finds the nearest adapter of an algorithm.
 *
 * @returns a value with tensors of its own
 * @throws {TypeError} for another target, a ΔW that depends on the base, as in (IA)^3, or an adapter with a bias
 *
 * @example
 * ```ts
 * import { convert, loha } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const w = convert(loha.create([3, 3, 8, 16], 4, { alpha: 2 }), "lora");
 * assert.is(w.rank, 16);
 * assert.is(w.alpha, 8); // the scale is 2 / 4 still
 * ```
 */
export function convert(adapter: Adapter, to: AlgorithmName): Adapter {
  const { algorithm, factors: { core, bornUp, scalar, magnitude, bias } } = adapter;
  const { lowRank } = rowOf(algorithm);
  if (algorithm === to && !core && !bornUp) return copy(adapter);
  if (to !== "lora" || !lowRank || bias) {
    throw new TypeError(
      `Cannot convert ${algorithm}${bias ? " with a bias" : ""} to ${to} as only a sum of outer ` +
        `products is exact, as lora: current target is ${to}, extract it from the difference instead`,
    );
  }
  const factors = tidy(() => ({
    ...lowRank(adapter.factors),
    ...(scalar && { scalar: tf.clone(scalar) }),
    ...(magnitude && { magnitude: tf.clone(magnitude) }),
  }));
  const { block: _block, ...rest } = adapter, [rank] = factors.up.shape;
  return {
    ...rest,
    algorithm: "lora",
    rank,
    alpha: scale(adapter) * rank,
    rankScale: "alpha/r",
    factors,
  };
}
