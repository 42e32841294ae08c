/** Adapters and files of a few numbers, for the tests of dialects. */
import * as tf from "@tensorflow/tfjs";
import {
  type Adapter,
  type AdapterOptions,
  create,
  dispose,
  mapFactors,
} from "../../lib/adapter/adapter.ts";
import type { AlgorithmName } from "../../lib/algorithms/table.ts";
import { open, type OpenOptions } from "../../lib/files/adapters.ts";
import { serialize, type TensorView } from "../../lib/files/safetensors.ts";
import type { Shape } from "../../lib/tensor/shape.ts";
import { values } from "./geometries.ts";

/** A kernel of fixed values. */
export const kernel = (shape: Shape, seed = 99) => tf.tensor(values(shape, seed), [...shape]);

/** An adapter as if it had been trained: no factor is zero, a magnitude is a length. */
export function trained(
  algorithm: AlgorithmName,
  shape: Shape,
  rank: number,
  options: AdapterOptions,
) {
  const base = kernel(shape),
    born = create(algorithm, shape, rank, options.dora ? { ...options, base } : options);
  let seed = 0;
  const made = mapFactors(born, (tensor, name) => {
    const random = tf.tensor(values(tensor.shape, seed++), [...tensor.shape]);
    return name === "magnitude" ? tf.add(tf.abs(random), 0.5) : random;
  });
  dispose(born);
  return made;
}

/** Frees the tensors of adapters. */
export const free = (adapters: Iterable<Adapter>) =>
  [...adapters].forEach((adapter) => dispose(adapter));

/** The error of a promise that must fail. */
export const refusal = async (promise: Promise<unknown>): Promise<Error> => {
  const error = await promise.then(() => undefined, (error: Error) => error);
  if (!error) throw new Error("nothing was refused");
  return error;
};

/** A stored tensor of fixed values. */
export const f32 = (shape: number[], seed: number): TensorView => ({
  dtype: "F32",
  shape,
  bytes: new Uint8Array(values(shape, seed).buffer),
});
/** The same values as a tensor. */
export const torch = (shape: number[], seed: number) => tf.tensor(values(shape, seed), shape);

/** `scale · (up · down)ᵀ` of the tensors made by seeds 1 (down) and 2 (up), rank 2, 6 in, 8 out. */
export const deltaOf = (scale: number) =>
  tf.mul(
    tf.transpose(tf.matMul(torch([8, 2], 2) as tf.Tensor2D, torch([2, 6], 1) as tf.Tensor2D)),
    scale,
  );

/** Opens one LoRA of rank 2, 6 in, 8 out, under these two keys. */
export async function pair(
  down: string,
  up: string,
  metadata: Record<string, string> = {},
  options: OpenOptions = {},
) {
  return await open(serialize([[down, f32([2, 6], 1)], [up, f32([8, 2], 2)]], metadata), options);
}
