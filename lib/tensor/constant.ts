import * as tf from "@tensorflow/tfjs";

/**
 * The same numbers, through which no gradient flows.
 *
 * TensorFlow.js has no stopGradient; an operation that declares no inputs is one. A variable that is only
 * read through it gets no gradient at all, rather than zeros, so an optimizer's moments leave it alone.
 */
export function constant(x: tf.Tensor): tf.Tensor {
  return tf.customGrad(() => ({ value: tf.clone(x), gradFunc: () => [] }))();
}
