/**
 * Adam, by TensorFlow.js's own optimizer, with one kernel a variable where the engine has it: theirs runs thirteen, which
 * for the many small factors of adapters takes a tenth of a training step.
 *
 * Kingma & Ba, "Adam: A Method for Stochastic Optimization", arXiv 1412.6980.
 */
import * as tf from "@tensorflow/tfjs";
import { ADAM, hasKernel } from "../tensor/fused.ts";

type Gradients = Parameters<tf.AdamOptimizer["applyGradients"]>[0];

/** A moment of a variable's gradients. */
interface Moment {
  originalName: string;
  variable: tf.Variable;
}

/** What the optimizer keeps to itself in the types: the moments, and βᵗ for the next step. */
interface Insides {
  accumulatedFirstMoment: Moment[];
  accumulatedSecondMoment: Moment[];
  accBeta1: tf.Variable;
  accBeta2: tf.Variable;
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  incrementIterations(): void;
}

/** One step of every variable that has a gradient. */
function descend(optimizer: Insides, gradients: Gradients): void {
  const { learningRate, beta1, beta2, epsilon, accBeta1, accBeta2 } = optimizer;
  const named = Array.isArray(gradients)
    ? gradients.map(({ name, tensor }): [string, tf.Tensor] => [name, tensor])
    : Object.entries(gradients);
  tf.tidy(() => {
    const [first, second] = [accBeta1, accBeta2].map((power) => 1 - power.dataSync()[0]);
    const attributes = { learningRate, beta1, beta2, epsilon, first, second };
    named.forEach(([name, g], i) => {
      const w = tf.engine().registeredVariables[name];
      const moment = (moments: Moment[], letter: string) =>
        (moments[i] ??= {
          originalName: `${name}/${letter}`,
          variable: tf.variable(tf.zerosLike(w), false),
        }).variable;
      const m = moment(optimizer.accumulatedFirstMoment, "m");
      const v = moment(optimizer.accumulatedSecondMoment, "v");
      if (!g) return;
      const next = tf.engine().runKernel(ADAM, { w, m, v, g }, attributes) as tf.Tensor[];
      [w, m, v].forEach((variable, at) => variable.assign(next[at]));
    });
    accBeta1.assign(tf.mul(accBeta1, beta1));
    accBeta2.assign(tf.mul(accBeta2, beta2));
  });
  optimizer.incrementIterations();
}

/**
 * `tf.train.adam(rate)`, the same steps but for rounding, in fewer kernels: for `model.compile` or any loop.
 *
 * @param rate default 0.001
 *
 * @example
 * ```ts
 * import { adam, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const w = tf.variable(tf.scalar(1)), optimizer = adam(0.1);
 * optimizer.minimize(() => tf.square(w));
 * assert.ok(Math.abs(w.dataSync()[0] - 0.9) < 1e-6); // the first step is as long as the rate
 * ```
 */
export function adam(rate?: number): tf.AdamOptimizer {
  const optimizer = tf.train.adam(rate), { applyGradients } = optimizer;
  return Object.assign(optimizer, {
    applyGradients(this: tf.AdamOptimizer, gradients: Gradients) {
      if (hasKernel(ADAM)) descend(this as unknown as Insides, gradients);
      else applyGradients.call(this, gradients);
    },
  });
}
