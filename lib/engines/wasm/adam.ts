/** A step of Adam in one pass over a variable, its moments and its gradient. */
import type * as tf from "@tensorflow/tfjs";
import { size } from "../../tensor/shape.ts";
import { type Call, floats } from "./compose.ts";
import { vectors } from "./vectors.ts";

/**
 * m′ = β₁·m + (1 − β₁)·g, v′ = β₂·v + (1 − β₂)·g², w′ = w − rate · (m′ / first) / (√(v′ / second) + ε).
 *
 * @returns w′, m′ and v′
 */
export function adam({ inputs: { w, m, v, g }, attrs, backend }: Call): tf.TensorInfo[] {
  const { beta1, beta2, epsilon, learningRate, first, second } = attrs as Record<string, number>;
  const next = [w, m, v].map(({ shape }) => backend.makeOutput(shape, "float32"));
  const constants = backend.makeOutput([8], "float32");
  const numbers = [beta1, 1 - beta1, beta2, 1 - beta2, 1 / first, 1 / second, epsilon];
  floats(backend, constants).set([...numbers, learningRate]);
  const all = [w, m, v, g, ...next], at = all.map(({ dataId }) => backend.getMemoryOffset(dataId));
  const [a, b, c, d, e, f, h] = at, count = Math.floor(size(w.shape) / 4);
  const by = backend.getMemoryOffset(constants.dataId);
  if (count > 0) vectors(backend).adam(a, b, c, d, e, f, h, by, count);
  const [W, M, V, G, W2, M2, V2] = all.map((tensor) => floats(backend, tensor));
  for (let i = 4 * count; i < W.length; i++) { // those that fill no vector
    M2[i] = beta1 * M[i] + (1 - beta1) * G[i];
    V2[i] = beta2 * V[i] + (1 - beta2) * G[i] * G[i];
    W2[i] = W[i] - learningRate * (M2[i] / first) / (Math.sqrt(V2[i] / second) + epsilon);
  }
  backend.disposeData(constants.dataId);
  return next;
}
