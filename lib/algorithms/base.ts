/** What an algorithm whose ΔW depends on the base kernel asks for, and gives back. */
import * as tf from "@tensorflow/tfjs";
import { outputs, same, type Shape, show, size } from "../tensor/shape.ts";

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
 * The base kernel that factors are born from.
 *
 * @throws {TypeError} when it is not given, or of another shape
 * @throws {RangeError} for a rank above that of the kernel as a matrix
 */
export function parent(
  base: tf.Tensor | undefined,
  shape: Shape,
  rank: number,
  algorithm: string,
): tf.Tensor {
  const most = Math.min(outputs(shape), size(shape) / outputs(shape));
  if (!base || !same(base.shape, shape)) {
    throw new TypeError(
      `Cannot create ${algorithm} as it is born from a kernel ${show(shape)}: ` +
        `current base is ${base ? show(base.shape) : "undefined"}, pass { base: kernel }`,
    );
  }
  if (rank > most) {
    throw new RangeError(
      `Cannot create ${algorithm} as a kernel ${show(shape)} has ${most} singular triplets: ` +
        `current rank is ${rank}`,
    );
  }
  return base;
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
