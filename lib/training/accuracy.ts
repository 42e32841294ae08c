/** How often a classifier is right. */
import * as tf from "@tensorflow/tfjs";
import { progress } from "../display/progress.ts";
import { batches } from "./batches.ts";
import type { Examples } from "./data.ts";

/** Examples at once: enough to keep an engine busy, few enough for the memory of a small one. */
const SIZE = 500;

/**
 * The share of examples whose largest logit is that of their class.
 *
 * @param forward `[N, H, W, I]` → logits `[N, classes]`; what it makes is disposed of
 * @param title what the progress on a terminal is called; "" shows none
 */
export async function accuracy(
  forward: (x: tf.Tensor4D) => tf.Tensor,
  examples: Examples,
  title = "testing",
): Promise<number> {
  const all = examples.labels.length;
  const bar = title === "" ? undefined : progress(title, all);
  let right = 0;
  for (const { x, y } of batches(examples, SIZE, { epochs: 1 })) {
    try {
      const hits = tf.tidy(() => tf.sum(tf.equal(tf.argMax(forward(x), -1), tf.argMax(y, -1))));
      right += (await hits.data())[0];
      hits.dispose();
    } finally {
      tf.dispose([x, y]);
    }
    bar?.step(x.shape[0]);
  }
  bar?.done();
  return right / all;
}
