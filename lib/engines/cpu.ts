/** TensorFlow.js's own `cpu` backend, plain JavaScript: right everywhere, and slow. */
import * as tf from "@tensorflow/tfjs";

/** The engine's name and its backend's. */
export const name = "cpu";

/** Always. */
export function available(): Promise<true> {
  return Promise.resolve(true);
}

/** Selects the backend `cpu`, which importing TensorFlow.js registers. */
export async function start(): Promise<void> {
  await tf.setBackend(name);
}
