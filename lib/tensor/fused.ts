/**
 * Sums of products that an engine may have one kernel for, registered under these names; else several of
 * TensorFlow.js's compute them. They have no gradient: operations are made of them.
 */
import * as tf from "@tensorflow/tfjs";

/** The kernels' names; that of Adam's step is `lib/training/adam.ts`'s. */
export const MULTIPLY_ADD = "LowrankMultiplyAdd",
  COLUMN_DOT = "LowrankColumnDot",
  ADAM = "LowrankAdam";

/** Whether the engine at hand has the kernel. */
export function hasKernel(name: string): boolean {
  return tf.getKernel(name, tf.getBackend()) !== undefined;
}

const run = (name: string, inputs: tf.NamedTensorMap) =>
  tf.engine().runKernel(name, inputs, {}) as tf.Tensor;

/**
 * A · B + C in one pass, for a product that is to be added to a kernel.
 *
 * @param a `[..., r]`
 * @param b `[r, O]`
 * @param c `[..., O]`
 * @returns `[..., O]`
 */
export function multiplyAdd(a: tf.Tensor, b: tf.Tensor, c: tf.Tensor): tf.Tensor {
  if (hasKernel(MULTIPLY_ADD)) return run(MULTIPLY_ADD, { a, b, c });
  return tf.tidy(() => {
    const product = tf.matMul(tf.reshape(a, [-1, b.shape[0]]), b);
    return tf.add(tf.reshape(product, c.shape), c);
  });
}

/**
 * Σ over rows of a ⊙ (b − shift), for each column: what a number for each channel has for a gradient.
 *
 * @param a `[..., C]`, as b
 * @param shift `[C]`; left out, zero
 * @returns `[C]`
 */
export function columnDot(a: tf.Tensor, b: tf.Tensor, shift?: tf.Tensor): tf.Tensor {
  if (hasKernel(COLUMN_DOT)) return run(COLUMN_DOT, { a, b, ...(shift && { shift }) });
  return tf.tidy(() => {
    const product = tf.mul(a, shift ? tf.sub(b, shift) : b);
    return tf.sum(tf.reshape(product, [-1, a.shape[a.rank - 1]]), 0);
  });
}
