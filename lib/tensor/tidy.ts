import * as tf from "@tensorflow/tfjs";

/** `tf.tidy` for a value of any type: the tensors inside it outlive the scope, all others made in it do not. */
export function tidy<T>(make: () => T): T {
  return tf.tidy(make as unknown as () => tf.TensorContainer) as unknown as T;
}
