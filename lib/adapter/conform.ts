/**
 * An adapter read from a file, fitted to the kernel that it is for.
 *
 * A file of LoHa, LoKr, (IA)^3, OFT or BOFT does not always tell the kernel's shape: `hada_w1_b` is `[r, I·kh·kw]` for
 * every kernel, a vector knows one of two axes, a rotation only the outputs. Such an adapter is read with the
 * shape it shows, its input axis in PyTorch's order (I, kh, kw) or a length −1, and gets the kernel's here.
 */
import * as tf from "@tensorflow/tfjs";
import { inputs, outputs, same, type Shape, show, size, space } from "../tensor/shape.ts";
import { type Adapter, mapFactors } from "./adapter.ts";

/** Whether a factor holds the input side of the kernel, and so its space. */
function holdsInput({ algorithm }: Adapter, name: string): boolean {
  return algorithm === "lokr"
    ? ["w2", "down2"].includes(name)
    : /^(down\d*|downB|bornDown|difference)$/.test(name);
}

/** `[I·k, n]` in PyTorch's order of the input → `[...k, I, n]`. */
function unflatten(factor: tf.Tensor, k: Shape): tf.Tensor {
  const [rows, columns] = factor.shape, I = rows / size(k);
  return tf.tidy(() => {
    const split = tf.reshape(factor, [I, ...k, columns]);
    const order = [...k.map((_, axis) => axis + 1), 0, k.length + 1];
    return tf.transpose(split, order);
  });
}

/**
 * The adapter with the shape of a kernel; the same value where it has it already.
 *
 * New tensors are made only where the axes move; inside a tidy scope they go with it.
 *
 * @throws {TypeError} when the adapter cannot be for that kernel
 */
export function conform(adapter: Adapter, shape: Shape): Adapter {
  if (same(adapter.shape, shape)) return adapter;
  const known = adapter.shape, k = space(shape);
  const fits = (length: number, wanted: number) => length === -1 || length === wanted;
  if (fits(outputs(known), outputs(shape))) {
    const pointwise = size(space(known)) === 1 && size(k) === 1;
    const change = (wide: (tensor: tf.Tensor) => tf.Tensor) => ({
      ...mapFactors(adapter, (tensor, name) => holdsInput(adapter, name) ? wide(tensor) : tensor),
      shape,
    });
    const { vector, blocks } = adapter.factors;
    if ((vector || blocks) && fits(inputs(known), inputs(shape))) return { ...adapter, shape };
    if (pointwise && inputs(known) === inputs(shape)) {
      return change((tensor) => tf.reshape(tensor, [...k, ...tensor.shape.slice(-2)]));
    }
    if (known.length === 2 && inputs(known) === inputs(shape) * size(k)) {
      return change((tensor) => unflatten(tensor, k));
    }
  }
  throw new TypeError(
    `Cannot apply ${adapter.algorithm} to a kernel ${show(shape)} as it must be of its shape: ` +
      `current adapter is for ${known.map((length) => (length < 0 ? "any" : length)).join("×")}`,
  );
}
