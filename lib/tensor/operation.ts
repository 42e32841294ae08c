import * as tf from "@tensorflow/tfjs";

/** Tensors by name. */
export type Named = Record<string, tf.Tensor>;

/** For each input of an operation its gradient, from that of the output, what is kept, and the output if that is. */
export type Gradients<T extends Named, K extends Named> = {
  [name in keyof T]: (dy: tf.Tensor, kept: T & K, y: tf.Tensor) => tf.Tensor;
};

/** What an operation keeps for its gradients besides its inputs. */
export interface Keep<K extends Named> {
  /** tensors that no gradient flows to */
  more?: K;
  /** the output; default false: y is undefined there */
  output?: boolean;
}

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
 * @param inputs kept until the gradient is taken; nothing that `forward` makes is, but for what is asked
 * @param forward may use any operation; none of it is differentiated. What it puts into `made` is kept too, by name
 */
export function operation<T extends Named, K extends Named = Record<never, tf.Tensor>>(
  inputs: T,
  forward: (inputs: T, made: Partial<K>) => tf.Tensor,
  gradients: Gradients<T, K>,
  { more = {} as K, output = false }: Keep<K> = {},
): tf.Tensor {
  let names: string[] = [];
  const engine = tf.engine() as unknown as { runKernelFunc(call: Invocation): tf.Tensor };
  return engine.runKernelFunc({
    inputs,
    forwardFunc: (_, save) => {
      const made: Partial<K> = {}, y = forward(inputs, made);
      const all: Named = { ...inputs, ...more, ...made };
      names = Object.keys(all);
      save([...Object.values(all), ...(output ? [y] : [])]);
      return y;
    },
    backwardsFunc: (dy, saved) => {
      const kept = Object.fromEntries(names.map((name, i) => [name, saved[i]])) as T & K;
      const gradient = (name: string) => () => gradients[name](dy, kept, saved[names.length]);
      return Object.fromEntries(Object.keys(inputs).map((name) => [name, gradient(name)]));
    },
  });
}
