/** Counting multiply-adds: what the `cost` of every algorithm is put together from. */
import { type Shape, size } from "../tensor/shape.ts";
import type { Cost, CostOptions } from "./algorithm.ts";

/** Output positions and input positions of a step: all examples, all places. */
export function positions(options: CostOptions): { output: number; input: number } {
  const { output = [], input = output, batch = 1 } = options;
  return { output: batch * size(output), input: batch * size(input) };
}

/**
 * The cost of an adapter from its three own numbers.
 *
 * Training a frozen layer is its forward and the gradient of its input, as much again. A bypass is made
 * of products, and each has two gradients: 3 × its forward. Rebuilding makes ΔW (and its gradients, 3 ×),
 * adds it to W, and needs the gradient of the whole W′, as much as the base's forward.
 *
 * @param parameters numbers trained
 * @param activation multiply-adds of op(x; ΔW) through the factors
 * @param build multiply-adds of ΔW
 */
export function costOf(
  shape: Shape,
  options: CostOptions,
  parameters: number,
  activation: number,
  build: number,
): Cost {
  const weights = size(shape), forward = weights * positions(options).output;
  return {
    parameters,
    base: { parameters: weights, forward, training: 2 * forward },
    bypass: { forward: activation, training: 3 * activation },
    rebuild: { forward: build + weights, training: 3 * build + weights + forward },
  };
}
