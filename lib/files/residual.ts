/**
 * What an extracted LoRA misses, kept where it is large, as LyCORIS's extraction stores it: `bias_indices` `[2, n]`, rows
 * and columns of the `[O, I · k]` matrix, `bias_values` `[n]`, and `bias_size` `[O, I · k]`.
 */
import * as tf from "@tensorflow/tfjs";
import type { Sparse } from "../adapter/extract/options.ts";
import { inputs, outputs, type Shape, size, space } from "../tensor/shape.ts";
import { fromFloat32 } from "./floats.ts";
import type { Torch } from "./layout.ts";
import type { Dtype, TensorEntry } from "./safetensors.ts";

/** The suffixes, beside those of the LoRA. */
export const SUFFIXES = ["bias_indices", "bias_values", "bias_size"] as const;

/** LyCORIS's indices are int16, and those above 32767 overflow. */
const SIXTEEN = 2 ** 16;

/**
 * The tensors of a residual in a file.
 *
 * @param module what the keys begin with
 * @param shape of the kernel, `[...k, I, O]`
 */
export function entriesOf(
  module: string,
  { indices, values }: Sparse,
  shape: Shape,
  dtype: Dtype,
): TensorEntry[] {
  const O = outputs(shape), I = inputs(shape), k = size(space(shape)), n = indices.length;
  const places = new Int32Array(2 * n);
  indices.forEach((place, at) => {
    const row = Math.floor(place / O);
    places[at] = place % O;
    places[n + at] = row % I * k + Math.floor(row / I);
  });
  const fits = Math.max(O, I * k) < SIXTEEN / 2, integers = fits ? "I16" : "I32";
  const bytes = (numbers: Int32Array) =>
    new Uint8Array((fits ? Int16Array.from(numbers) : numbers).buffer);
  const entry = (suffix: string, dtype: Dtype, shape: number[], bytes: () => Uint8Array) => ({
    name: `${module}.${suffix}`,
    dtype,
    shape,
    bytes,
  });
  const sizes = Int32Array.of(O, I * k);
  return [
    entry(SUFFIXES[0], integers, [2, n], () => bytes(places)),
    entry(SUFFIXES[1], dtype, [n], () => fromFloat32(dtype, values)),
    entry(SUFFIXES[2], integers, [2], () => bytes(sizes)),
  ];
}

/**
 * The residual as a kernel `[...k, I, O]`.
 *
 * @param torch the module's tensors by suffix
 * @throws {RangeError} for a place outside the kernel
 */
export function residualOf(torch: Torch, shape: Shape): tf.Tensor {
  const O = outputs(shape), I = inputs(shape), k = size(space(shape));
  const places = torch.bias_indices.dataSync(), values = torch.bias_values.dataSync();
  const whole = new Float32Array(size(shape)), n = values.length;
  if (places.length !== 2 * n) {
    throw new RangeError(`current indices are ${places.length}, of ${n} values`);
  }
  const unsigned = (place: number) => place < 0 ? place + SIXTEEN : place;
  values.forEach((value, at) => {
    const o = unsigned(places[at]), column = unsigned(places[n + at]);
    if (o >= O || column >= I * k) {
      throw new RangeError(`current place of the residual is ${o}, ${column}`);
    }
    whole[(column % k * I + Math.floor(column / k)) * O + o] += value;
  });
  return tf.tensor(whole, [...shape]);
}
