/**
 * LoRA+: the factors that are born zero learn some times faster than those beside them.
 *
 * Hayou, Ghosh & Yu, "LoRA+: Efficient Low Rank Adaptation of Large Models", arXiv 2402.12354: the wider a network, the
 * smaller the step that `down` can take, whose products sum over all inputs, and `up` need not take it too. They find
 * a ratio near 16 for `up`, where kohya's `loraplus_lr_ratio` and PEFT have it too.
 *
 * Beyond LoRA nobody has said which factors these are. Here they are the ones born zero beside others that are not, of
 * which ΔW is made first: `up` of LoRA (also of one born from its base) and of DyLoRA, `up2` of LoHa, `w2` or `down2` of LoKr, `downA` and `downB` of GLoRA,
 * `scalar` where there is one. (IA)^3, full, norm, OFT and BOFT have one factor, and T-LoRA none that is zero: they learn
 * at the optimizer's own rate.
 */
import * as tf from "@tensorflow/tfjs";
import { bornZero } from "../adapter/adapter.ts";
import { each, type Target, variablesOf } from "../layers/each.ts";

/**
 * The optimizer, by which these factors take steps `ratio` times as long: for `model.compile` or any loop.
 *
 * The step is multiplied after the optimizer has taken it, v ← v₀ + ratio · (v − v₀). That is a rate `ratio` times as high
 * for every optimizer whose step is its rate times something, as all of TensorFlow.js's are. The one given is not changed,
 * but for what both remember of the variables: use the one or the other, and dispose of one.
 *
 * @throws {RangeError} for a ratio that is not above 0, or adapters that have no such factor
 *
 * @example
 * ```ts
 * import { lora, loraPlus, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const model = tf.sequential({ layers: [tf.layers.dense({ inputShape: [4], units: 3 })] });
 * const all = lora.model(model, 2), { up } = [...all.adapters.values()][0].factors;
 * const optimizer = tf.train.sgd(0.01);
 * const step = (by: tf.Optimizer) => {
 *   by.minimize(() => tf.sum(model.apply(tf.ones([1, 4])) as tf.Tensor) as tf.Scalar);
 *   return tf.max(tf.abs(up!)).dataSync()[0];
 * };
 * const once = step(optimizer), then = step(loraPlus(optimizer, all, 16));
 * assert.ok(Math.abs(then - 17 * once) < 1e-6);
 * ```
 */
export function loraPlus<O extends tf.Optimizer>(optimizer: O, target: Target, ratio: number): O {
  if (!(ratio > 0 && ratio < Infinity)) {
    throw new RangeError(
      `Cannot use LoRA+ as its ratio must be above 0 and finite: current ratio is ${ratio}`,
    );
  }
  const adapters = [...each(target).values()].map(({ adapter }) => adapter);
  const faster = adapters.flatMap((adapter) =>
    variablesOf(adapter).flatMap(([name, variable]) => bornZero(adapter, name) ? variable : [])
  );
  if (faster.length === 0) {
    throw new RangeError(
      "Cannot use LoRA+ as an adapter must have factors born zero beside others: current " +
        `algorithms are ${[...new Set(adapters.map(({ algorithm }) => algorithm))].join(", ")}`,
    );
  }
  const applyGradients = function (this: O, gradients: Parameters<O["applyGradients"]>[0]) {
    const before = faster.flatMap((variable) =>
      variable.isDisposed ? [] : [[variable, variable.clone()] as const]
    );
    optimizer.applyGradients.call(this, gradients);
    tf.tidy(() => {
      for (const [variable, old] of before) {
        variable.assign(tf.add(old, tf.mul(tf.sub(variable, old), ratio)));
      }
    });
    tf.dispose(before.map(([, old]) => old));
  };
  return Object.create(optimizer, { applyGradients: { value: applyGradients } });
}
