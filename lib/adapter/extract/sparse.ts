/** What an adapter misses, kept where it is large. */
import * as tf from "@tensorflow/tfjs";
import { scoped } from "../matrices.ts";
import type { Difference } from "./difference.ts";
import type { Sparse } from "./options.ts";

/**
 * The quantile of numbers, between neighbours in proportion, as numpy's and torch's.
 *
 * @throws {RangeError} for a share that is none
 */
export function quantileOf(numbers: Float32Array | Float64Array, share: number): number {
  if (!(share >= 0 && share <= 1)) {
    throw new RangeError(
      `Cannot take a quantile as its share must be between 0 and 1: current share is ${share}`,
    );
  }
  const sorted = numbers.slice().sort(), at = share * (sorted.length - 1);
  const below = sorted[Math.floor(at)], above = sorted[Math.ceil(at)];
  return below + (above - below) * (at - Math.floor(at));
}

/**
 * Of ΔW − ΔW′ the numbers whose size is at or above the quantile `sparsity` of all sizes.
 *
 * @throws {RangeError} for a sparsity that is no share
 */
export function sparseOf(
  { tensor, energy }: Difference,
  approximation: tf.Tensor,
  sparsity: number,
): Sparse {
  const rest = scoped(() => tf.sub(tensor, approximation).dataSync<"float32">());
  const limit = quantileOf(rest.map(Math.abs), sparsity);
  const indices: number[] = [];
  let missed = 0;
  rest.forEach((value, i) => {
    if (Math.abs(value) >= limit && value !== 0) indices.push(i);
    else missed += value * value;
  });
  return {
    indices: Uint32Array.from(indices),
    values: Float32Array.from(indices, (i) => rest[i]),
    error: Math.sqrt(missed / energy),
  };
}
