/** The last axis in blocks, each a matrix of its own: what groups, Kronecker factors and rotations work on. */
import * as tf from "@tensorflow/tfjs";
import type { Shape } from "./shape.ts";

/** `[..., m·n]` → `[m, P, n]`, P all places before the last axis. */
export function apart(x: tf.Tensor, m: number): tf.Tensor {
  return tf.transpose(tf.reshape(x, [-1, m, x.shape[x.rank - 1] / m]), [1, 0, 2]);
}

/** The inverse of {@link apart}: `[m, P, n]` → a shape `[..., m·n]`. */
export function together(blocks: tf.Tensor, shape: Shape): tf.Tensor {
  return tf.reshape(tf.transpose(blocks, [1, 0, 2]), [...shape]);
}
