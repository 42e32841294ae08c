/** The weight side: W′ = W + s · scale · ΔW and b′ = b + s · Δb, and back. */
import * as tf from "@tensorflow/tfjs";
import { rowOf } from "../algorithms/table.ts";
import { tidy } from "../tensor/tidy.ts";
import type { Adapter } from "./adapter.ts";
import { conform } from "./conform.ts";
import { stretch } from "./decompose.ts";
import { type View, view } from "./view.ts";

/** How much of an adapter is used. */
export interface Strength {
  /** s; may be negative; default 1 */
  strength?: number;
}

/** scale · scalar · mask · ΔW of a view. */
export function scaled({ adapter, factors, scale, mask }: View, base?: tf.Tensor): tf.Tensor {
  return tf.tidy(() => {
    const { algorithm } = rowOf(adapter.algorithm), { scalar } = adapter.factors;
    const delta = algorithm.delta(factors, base, adapter);
    const whole = scale === 1 ? delta : tf.mul(delta, scale);
    const learned = scalar ? tf.mul(whole, scalar) : whole;
    return mask ? tf.mul(learned, mask) : learned;
  });
}

/** W′ of a view; differentiable in the base and in every factor. */
export function adapted(base: tf.Tensor, view: View, strength: number): tf.Tensor {
  const { adapter: { algorithm, dora, factors: { magnitude } }, factors } = view;
  const { adapt } = rowOf(algorithm).algorithm;
  if (adapt) return adapt(factors, base, strength);
  return tf.tidy(() => {
    const delta = scaled(view, base);
    if (!dora || !magnitude) {
      return tf.add(base, strength === 1 ? delta : tf.mul(delta, strength));
    }
    const V = tf.add(base, delta);
    return tf.mul(V, stretch(V, magnitude, dora, strength));
  });
}

/** b′ of a view, where it or the layer has a bias. */
export function adaptedBias(
  bias: tf.Tensor | undefined,
  { factors: { bias: own }, mask }: View,
  strength: number,
): tf.Tensor | undefined {
  if (!own) return bias;
  const added = tf.mul(mask ? tf.mul(own, mask) : own, strength);
  return bias ? tf.add(bias, added) : added;
}

/** The view of all of an adapter, seen over a kernel of the base's shape. */
function whole(adapter: Adapter, base: tf.Tensor): View {
  const fitted = conform(adapter, base.shape);
  return view(fitted)!;
}

/**
 * What an adapter adds to a kernel at strength 1: scale · ΔW, and W′ − W where it is not a plain sum (DoRA).
 *
 * @param base the kernel; needed by DoRA, (IA)^3, OFT, BOFT, GLoRA and T-LoRA, which depend on it
 * @returns `[...k, I/G, O]`
 * @throws {TypeError} when the base is needed and not given, or of another shape
 */
export function delta(adapter: Adapter, base?: tf.Tensor): tf.Tensor {
  return tf.tidy(() => {
    if (!adapter.dora) return scaled(base ? whole(adapter, base) : view(adapter)!, base);
    if (!base) {
      throw new TypeError(
        "Cannot compute the delta of an adapter with dora as it depends on the base kernel: " +
          "current base is undefined, pass the kernel",
      );
    }
    return tf.sub(adapted(base, whole(adapter, base), 1), base);
  });
}

/**
 * W′ = W + s · scale · ΔW: the kernel that computes what the layer and its adapter compute.
 *
 * @param base `[...k, I/G, O]`, not changed
 * @returns a new kernel, the caller's
 * @throws {TypeError} when the adapter is of another shape
 */
export function merge(
  base: tf.Tensor,
  adapter: Adapter,
  { strength = 1 }: Strength = {},
): tf.Tensor {
  return tf.tidy(() => adapted(base, whole(adapter, base), strength));
}

/**
 * b′ = b + s · Δb: the bias beside {@link merge}, the same one where the adapter has none for it.
 *
 * @param base `[O]`, or undefined for a layer without; not changed
 * @returns a new bias, the caller's; undefined where neither has one
 */
export function mergeBias(
  base: tf.Tensor | undefined,
  adapter: Adapter,
  { strength = 1 }: Strength = {},
): tf.Tensor | undefined {
  const merged = tidy(() => adaptedBias(base, view(adapter)!, strength));
  return merged === base ? merged?.clone() : merged;
}

/**
 * W from W′: the inverse of {@link merge} at the same strength. A bias is taken back by {@link mergeBias} at −s.
 *
 * Exact but for rounding: (W + D) − D differs from W by the rounding of the sum. (IA)^3 divides by 1 + s·v, OFT and
 * BOFT turn back.
 *
 * @throws {TypeError} for DoRA, GLoRA and T-LoRA, whose W′ does not tell W
 * @throws {RangeError} where (IA)^3 or a rescaled OFT multiplied a channel by zero
 */
export function unmerge(
  merged: tf.Tensor,
  adapter: Adapter,
  { strength = 1 }: Strength = {},
): tf.Tensor {
  const { algorithm: { restore }, relative } = rowOf(adapter.algorithm);
  if (adapter.dora || (relative && !restore)) {
    throw new TypeError(
      `Cannot unmerge ${adapter.dora ? "an adapter with dora" : adapter.algorithm} as the merged ` +
        "kernel does not tell its base: keep the base",
    );
  }
  return tf.tidy(() => {
    if (!restore) return tf.sub(merged, tf.mul(delta(adapter, merged), strength));
    return restore(whole(adapter, merged).factors, merged, strength);
  });
}
