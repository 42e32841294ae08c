/** A new adapter for a layer. */
import * as tf from "@tensorflow/tfjs";
import { type AlgorithmName, rowOf } from "../algorithms/table.ts";
import { type Adapter, type AdapterOptions, create } from "../adapter/adapter.ts";
import { outputs, show, size } from "../tensor/shape.ts";
import { anatomy } from "./host.ts";

/**
 * An adapter of the layer's shape, born so that the layer computes what it did.
 *
 * @throws {RangeError} for a rank above that of the layer's kernel as a matrix `[k·I/G, O]`
 */
export function createFor(
  layer: tf.layers.Layer,
  algorithm: AlgorithmName,
  rank: number,
  options: AdapterOptions,
): Adapter {
  const { bias: own, variable, shape, see } = anatomy(layer);
  const O = outputs(shape), largest = Math.min(O, size(shape) / O);
  const { bounded, options: known } = rowOf(algorithm);
  if (bounded && rank > largest) {
    throw new RangeError(
      `Cannot attach ${algorithm} to "${layer.name}" as rank must be <= ${largest} for a kernel ` +
        `${show(shape)}: current rank is ${rank}`,
    );
  }
  const bias = known.includes("bias") && own ? { bias: true } : {};
  const fromBase = options.dora || options.init || algorithm === "tlora";
  const base = fromBase ? { base: tf.clone(see(variable.read())) } : {};
  try {
    return create(algorithm, shape, rank, { ...bias, ...base, ...options });
  } finally {
    tf.dispose(base);
  }
}
