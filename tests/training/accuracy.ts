import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { accuracy } from "../../lib/training/accuracy.ts";
import type { Examples } from "../../lib/training/data.ts";
import { leakless } from "../support/close.ts";

/** 1,200 images of one pixel, every third of which is white; white ones are of class 1. */
const examples: Examples = {
  images: Uint8Array.from({ length: 1200 }, (_, i) => i % 3 === 0 ? 255 : 0),
  labels: Uint8Array.from({ length: 1200 }, (_, i) => i % 3 === 0 ? 1 : 0),
  shape: [1, 1, 1],
  classes: ["black", "white"],
};

const share = suite("accuracy()");
leakless(share);

share("is 1 for who sees the class", async () => {
  const see = (x: tf.Tensor4D) => tf.reshape(tf.concat([tf.sub(1, x), x], 3), [-1, 2]);
  assert.is(await accuracy(see, examples), 1);
});

share("is the share of a class for who always guesses it", async () => {
  const guess = ({ shape: [N] }: tf.Tensor4D) => tf.oneHot(tf.ones([N], "int32"), 2);
  assert.is(await accuracy(guess, examples), 1 / 3);
});

share.run();
