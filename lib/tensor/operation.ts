import * as tf from "@tensorflow/tfjs";

/** Tensors by name. */
export type Named = Record<string, tf.Tensor>;

/** For each input of an operation its gradient, from that of the output and the inputs. */
export type Gradients<T extends Named> = {
  [name in keyof T]: (dy: tf.Tensor, inputs: T) => tf.Tensor;
};

interface Invocation {
  forwardFunc: (backend: unknown, save: (tensors: tf.Tensor[]) => void) => tf.Tensor;
  backwardsFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => Record<string, () => tf.Tensor>;
  inputs: Named;
}

/**
 * f(inputs), with a gradient for each input that is computed only when that input is trained.
 *
 * `tf.customGrad` computes every gradient, so that a frozen kernel would cost as much as a trained one.
 * What it is made of, the engine's `runKernelFunc`, is lazy; it is not public in the types.
 *
 * @param inputs kept until the gradient is taken; nothing that `forward` makes is
 * @param forward may use any operation; none of it is differentiated
 */
export function operation<T extends Named>(
  inputs: T,
  forward: (inputs: T) => tf.Tensor,
  gradients: Gradients<T>,
): tf.Tensor {
  const names = Object.keys(inputs);
  const engine = tf.engine() as unknown as { runKernelFunc(call: Invocation): tf.Tensor };
  return engine.runKernelFunc({
    inputs,
    forwardFunc: (_, save) => {
      save(names.map((name) => inputs[name]));
      return forward(inputs);
    },
    backwardsFunc: (dy, saved) => {
      const kept = Object.fromEntries(names.map((name, i) => [name, saved[i]])) as T;
      return Object.fromEntries(names.map((name) => [name, () => gradients[name](dy, kept)]));
    },
  });
}
