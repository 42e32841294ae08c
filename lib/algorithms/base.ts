/** What an algorithm whose ΔW depends on the base kernel asks for, and gives back. */
import * as tf from "@tensorflow/tfjs";

/**
 * The base kernel.
 *
 * @throws {TypeError} when it is not given
 */
export function needed(base: tf.Tensor | undefined, algorithm: string): tf.Tensor {
  if (base) return base;
  throw new TypeError(
    `Cannot compute the delta of ${algorithm} as it depends on the base kernel: ` +
      "current base is undefined, pass the kernel",
  );
}

/**
 * What was multiplied by a number a channel, before it was.
 *
 * @throws {RangeError} where that number is zero
 */
export function divided(merged: tf.Tensor, channels: tf.Tensor, algorithm: string): tf.Tensor {
  if (tf.tidy(() => tf.any(tf.equal(channels, 0)).dataSync()[0])) {
    throw new RangeError(
      `Cannot unmerge ${algorithm} as a channel was multiplied by zero: keep the base`,
    );
  }
  return tf.div(merged, channels);
}
