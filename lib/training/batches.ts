/** Examples as tensors, some at a time. */
import * as tf from "@tensorflow/tfjs";
import { size } from "../tensor/shape.ts";
import { generator } from "../tensor/random.ts";
import type { Examples } from "./data.ts";

/** A few examples; whoever takes it disposes of it. */
export type Batch = {
  /** `[N, H, W, I]`, 0 to 1 */
  x: tf.Tensor4D;
  /** `[N, classes]`, 1 at the class and 0 elsewhere */
  y: tf.Tensor2D;
};

/** What {@link batches} may be told. */
export interface BatchesOptions {
  /** of the order, which is another in every epoch; without it the examples come as they stand */
  seed?: number;
  /** how often all examples come; for ever unless told */
  epochs?: number;
}

/**
 * Batches of N = `count` examples; the last of an epoch holds what is left, so that each comes once an epoch.
 *
 * @throws {RangeError} when a batch would hold no example
 */
export function* batches(
  examples: Examples,
  count: number,
  { seed, epochs = Infinity }: BatchesOptions = {},
): Generator<Batch, void, undefined> {
  const all = examples.labels.length;
  if (!(Math.min(all, count) >= 1)) {
    throw new RangeError(
      `Cannot make batches of examples as each must hold one: current count is ${count} of ${all}`,
    );
  }
  const order = Uint32Array.from({ length: all }, (_, i) => i);
  const random = seed === undefined ? undefined : generator(seed);
  for (let epoch = 0; epoch < epochs; epoch++) {
    if (random) shuffle(order, random);
    for (let i = 0; i < all; i += count) yield batch(examples, order.subarray(i, i + count));
  }
}

/** The examples at some places as tensors. */
function batch({ images, labels, shape, classes }: Examples, places: Uint32Array): Batch {
  const length = size(shape), count = places.length;
  const x = new Float32Array(count * length), y = new Float32Array(count * classes.length);
  for (let n = 0; n < count; n++) {
    const from = places[n] * length, to = n * length;
    for (let i = 0; i < length; i++) x[to + i] = images[from + i] / 255;
    y[n * classes.length + labels[places[n]]] = 1;
  }
  return {
    x: tf.tensor4d(x, [count, ...shape]),
    y: tf.tensor2d(y, [count, classes.length]),
  };
}

/** Every order equally likely (Fisher and Yates), in place. */
function shuffle(order: Uint32Array, random: () => number): void {
  for (let last = order.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [order[last], order[other]] = [order[other], order[last]];
  }
}
