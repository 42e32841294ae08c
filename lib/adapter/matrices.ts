/** Between tensors, which are float32 and the engine's, and matrices of float64. */
import * as tf from "@tensorflow/tfjs";
import { type Matrix, matrix } from "../tensor/matrix.ts";
import { outputs, type Shape, size } from "../tensor/shape.ts";

/** A tensor's numbers, all axes but the last as rows: a kernel `[...k, I/G, O]` as `[k·I/G, O]`. */
export function matrixOf(tensor: tf.Tensor): Matrix {
  const columns = outputs(tensor.shape);
  return matrix(size(tensor.shape) / columns, columns, tensor.dataSync());
}

/** A matrix as a tensor of another shape, rounded to float32. */
export function tensorOf({ data }: Matrix, shape: Shape): tf.Tensor {
  return tf.tensor(new Float32Array(data), [...shape]);
}

/** A matrix as a tensor, rounded to float32. */
export function upload({ rows, columns, data }: Matrix): tf.Tensor2D {
  return tf.tensor2d(new Float32Array(data), [rows, columns]);
}

/** A kernel as one matrix on the engine. */
export function flat(kernel: tf.Tensor): tf.Tensor2D {
  return tf.reshape(kernel, [-1, outputs(kernel.shape)]);
}

/**
 * What is made in a scope that frees all its tensors: for results that hold none, as `tf.tidy` would look for them
 * among all the numbers.
 */
export function scoped<T>(make: () => T): T {
  const engine = tf.engine();
  engine.startScope();
  try {
    return make();
  } finally {
    engine.endScope();
  }
}

/** Σ x², summed in float64. */
export function energyOf(tensor: tf.Tensor): number {
  const values = tensor.dataSync();
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] * values[i];
  return sum;
}
