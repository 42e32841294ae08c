import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { batches, type BatchesOptions } from "../../lib/training/batches.ts";
import type { Examples } from "../../lib/training/data.ts";
import { leakless } from "../support/close.ts";

/** Ten images of one pixel, each as bright as its place; the class is whether that is odd. */
const examples: Examples = {
  images: Uint8Array.from({ length: 10 }, (_, i) => i),
  labels: Uint8Array.from({ length: 10 }, (_, i) => i % 2),
  shape: [1, 1, 1],
  classes: ["even", "odd"],
};

/** The places of the examples in each batch. */
function places(count: number, options: BatchesOptions): number[][] {
  return [...batches(examples, count, options)].map(({ x }) =>
    [...x.dataSync()].map((value) => Math.round(value * 255))
  );
}

const some = suite("batches()");
leakless(some);

some("come in order without a seed, the last with what is left", () => {
  assert.equal(places(4, { epochs: 1 }), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]);
});

some("hold images as [N, H, W, I] in 0 to 1, and a 1 at each class", () => {
  const [{ x, y }] = batches(examples, 10, { epochs: 1 });
  assert.equal(x.shape, [10, 1, 1, 1]);
  assert.equal([...x.dataSync()], [...Float32Array.from(examples.images, (byte) => byte / 255)]);
  assert.equal(y.shape, [10, 2]);
  assert.equal([...tf.argMax(y, 1).dataSync()], [...examples.labels]);
  assert.equal([...tf.sum(y, 1).dataSync()], Array(10).fill(1));
});

some("hold every example once an epoch, in another order each", () => {
  const order = places(5, { seed: 1, epochs: 2 }).flat();
  const [one, two] = [order.slice(0, 10), order.slice(10)];
  assert.equal([...one].sort(), [...examples.images]);
  assert.equal([...two].sort(), [...examples.images]);
  assert.not.equal(one, two);
});

some("are the same for the same seed, and others for another", () => {
  assert.equal(places(3, { seed: 7, epochs: 1 }), places(3, { seed: 7, epochs: 1 }));
  assert.not.equal(places(3, { seed: 7, epochs: 1 }), places(3, { seed: 8, epochs: 1 }));
});

some("must hold an example", () => {
  const refused = (error: unknown) => error instanceof RangeError;
  assert.throws(() => places(0, { epochs: 1 }), refused);
  const none = { ...examples, images: new Uint8Array(), labels: new Uint8Array() };
  assert.throws(() => [...batches(none, 1, { epochs: 1 })], refused);
});

some.run();
