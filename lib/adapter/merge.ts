/** The weight side: W′ = W + s · scale · ΔW, and back. */
import * as tf from "@tensorflow/tfjs";
import { rowOf } from "../algorithms/table.ts";
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
    const delta = algorithm.delta(factors, base);
    const whole = scale === 1 ? delta : tf.mul(delta, scale);
    const learned = scalar ? tf.mul(whole, scalar) : whole;
    return mask ? tf.mul(learned, mask) : learned;
  });
}

/** W′ of a view; differentiable in the base and in every factor. */
export function adapted(base: tf.Tensor, view: View, strength: number): tf.Tensor {
  return tf.tidy(() => {
    const delta = scaled(view, base), { magnitude } = view.adapter.factors, { dora } = view.adapter;
    if (!dora || !magnitude) {
      return tf.add(base, strength === 1 ? delta : tf.mul(delta, strength));
    }
    const V = tf.add(base, delta);
    return tf.mul(V, stretch(V, magnitude, dora, strength));
  });
}

/** The view of all of an adapter, seen over a kernel of the base's shape. */
function whole(adapter: Adapter, base: tf.Tensor): View {
  const fitted = conform(adapter, base.shape);
  return view(fitted)!;
}

/**
 * What an adapter adds to a kernel at strength 1: scale · ΔW, and W′ − W where it is not a plain sum (DoRA, IA3).
 *
 * @param base the kernel; needed by DoRA and (IA)^3, which depend on it
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
 * W from W′: the inverse of {@link merge} at the same strength.
 *
 * Exact but for rounding: (W + D) − D differs from W by the rounding of the sum. (IA)^3 divides by 1 + s·v.
 *
 * @throws {TypeError} for DoRA, whose W′ has lost the length of W
 * @throws {RangeError} for (IA)^3 where 1 + s·v is zero
 */
export function unmerge(
  merged: tf.Tensor,
  adapter: Adapter,
  { strength = 1 }: Strength = {},
): tf.Tensor {
  if (adapter.dora) {
    throw new TypeError(
      "Cannot unmerge an adapter with dora as the merged kernel has lost the lengths of its base: " +
        "keep the base",
    );
  }
  return tf.tidy(() => {
    const { factors: { vector } } = adapter;
    if (!vector) return tf.sub(merged, tf.mul(delta(adapter, merged), strength));
    const factor = tf.add(tf.mul(vector, strength), 1);
    if (tf.any(tf.equal(factor, 0)).dataSync()[0]) {
      throw new RangeError(
        `Cannot unmerge ia3 at strength ${strength} as a channel was multiplied by zero: keep the base`,
      );
    }
    return tf.div(merged, factor);
  });
}
