/** Max-norm regularization of attached adapters, after each step of a training. */
import * as tf from "@tensorflow/tfjs";
import { cap } from "../adapter/max_norm.ts";
import { each, type Target, variablesOf } from "../layers/each.ts";
import { anatomy } from "../layers/host.ts";

/** Holds adapters to a norm; a callback of `model.fit` too, which does so after each step. */
export interface MaxNorm {
  /** shortens what is too long; the norms that are left, by the name of their layer */
  update(): Map<string, number>;
  /** {@link update}, as `model.fit(x, y, { callbacks: [norms] })` calls it */
  onBatchEnd(): void;
}

/**
 * ‖scale · ΔW‖ <= max for an adapter or each of a model's, as kohya's `scale_weight_norms` holds them.
 *
 * The factors are multiplied as `cap` says; of T-LoRA, and of LoRA born from its base, the live adapter's alpha.
 *
 * @throws {RangeError} for a norm that is not above 0
 *
 * @example
 * ```ts
 * import { full, maxNorm, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const dense = tf.layers.dense({ inputShape: [2], units: 1, useBias: false });
 * tf.sequential({ layers: [dense] });
 * const attached = full.linear(dense), norms = maxNorm(attached, 1);
 * (attached.adapter.factors.difference as tf.Variable).assign(tf.tensor([[3], [4]]));
 * assert.equal([...norms.update().values()], [1]);
 * const [x, y] = attached.delta().dataSync();
 * assert.ok(Math.abs(x - 3 / 5) < 1e-6 && Math.abs(y - 4 / 5) < 1e-6);
 * ```
 */
export function maxNorm(target: Target, max: number): MaxNorm {
  if (!(max > 0)) {
    throw new RangeError(`Cannot cap a norm as it must be above 0: current norm is ${max}`);
  }
  const update = () => {
    const norms = new Map<string, number>();
    tf.tidy(() => {
      for (const [name, { adapter, layer }] of each(target)) {
        const { variable, see } = anatomy(layer);
        const { norm, ratio, factors, alpha } = cap(adapter, max, see(variable.read()));
        norms.set(name, norm);
        if (ratio === 1) continue;
        for (const [factor, variable] of variablesOf(adapter)) {
          if (factor in factors) variable.assign(tf.mul(variable, factors[factor]));
        }
        // the live value: what the layer reads at its next call
        Object.assign(adapter, { alpha: adapter.alpha * alpha });
      }
    });
    return norms;
  };
  return { update, onBatchEnd: () => void update() };
}
