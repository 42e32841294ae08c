/**
 * DoRA: the lengths of a kernel's columns, and a kernel given other lengths.
 *
 * Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", arXiv 2402.09353. As LyCORIS trains it, the
 * gradient flows through the length too (the paper detaches it).
 */
import * as tf from "@tensorflow/tfjs";

/** Which channels have a length each: the outputs (LyCORIS since 3.2), or the inputs (before). */
export type Axis = "output" | "input";

/** float32's epsilon, which LyCORIS adds to a length before it divides by it. */
export const EPSILON: number = 2 ** -23;

/** The L2 lengths of a kernel `[...k, I, O]`: `[1, O]` over k and I, or `[I, 1]` over k and O, to multiply it by. */
export function norms(kernel: tf.Tensor, axis: Axis): tf.Tensor {
  return tf.tidy(() => {
    const kept = axis === "output" ? kernel.rank - 1 : kernel.rank - 2;
    const summed = kernel.shape.map((_, i) => i).filter((i) => i !== kept);
    const lengths = tf.sqrt(tf.sum(tf.square(kernel), summed));
    return tf.reshape(lengths, axis === "output" ? [1, -1] : [-1, 1]);
  });
}

/**
 * What V = W + ΔW is multiplied by, a number a channel: s · (magnitude / ‖V‖ − 1) + 1.
 *
 * At s = 1 every channel has its magnitude; at s = 0 this is V, not W, as in LyCORIS (its bug B6): strength moves
 * the length and not the direction.
 */
export function stretch(
  V: tf.Tensor,
  magnitude: tf.Tensor,
  axis: Axis,
  strength: number,
): tf.Tensor {
  return tf.tidy(() => {
    const ratio = tf.div(magnitude, tf.add(norms(V, axis), EPSILON));
    return tf.add(tf.mul(tf.sub(ratio, 1), strength), 1);
  });
}
