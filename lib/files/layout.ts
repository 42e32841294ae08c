/** How PyTorch lays a factor out, `[O, I, kh, kw]`, and how this library does, `[kh, kw, I, O]`. */
import * as tf from "@tensorflow/tfjs";
import { outputs, type Shape, space } from "../tensor/shape.ts";

/** Tensors of one module by suffix, in PyTorch's layout. */
export type Torch = Record<string, tf.Tensor>;

/** `[a, b, ...k]` → `[...k, b, a]`. */
export function flip(tensor: tf.Tensor): tf.Tensor {
  const k = tensor.shape.slice(2).map((_, axis) => axis + 2);
  return tf.transpose(tensor, [...k, 1, 0]);
}

/** `[a, b, 1, 1]` or `[a, b]` → `[b, a]`. */
export function matrix(tensor: tf.Tensor): tf.Tensor {
  const [a, b] = tensor.shape as number[];
  return tf.reshape(flip(tensor), [b, a]);
}

/** `[...k, b, a]` → `[a, b, ...k]`, the inverse of {@link flip}. */
export function unflip(tensor: tf.Tensor): tf.Tensor {
  const k = space(tensor.shape).map((_, axis) => axis);
  return tf.transpose(tensor, [tensor.rank - 1, tensor.rank - 2, ...k]);
}

/** `[b, a]` → `[a, b, 1, 1]`, with an axis of one for each of the kernel's in space. */
export function pointwise(tensor: tf.Tensor, k: Shape): tf.Tensor {
  const [b, a] = tensor.shape as number[];
  return tf.reshape(unflip(tensor), [a, b, ...k.map(() => 1)]);
}

/** `[...k, b, a]` → `[a, b·k]`, as LoHa and LoKr store the input side of every kernel. */
export function flat(tensor: tf.Tensor): tf.Tensor {
  return tf.reshape(unflip(tensor), [outputs(tensor.shape), -1]);
}
