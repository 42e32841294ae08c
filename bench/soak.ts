/**
 * Do 10,000 training steps of an adapted layer leave memory as it was? Every thousand it prints the tensors that
 * exist and the resident memory, once garbage is collected, and ends with 1 where either has grown.
 *
 * `deno run -A --v8-flags=--expose-gc bench/soak.ts [--steps 10000] [--engine NAME] [--algorithm lora]`
 */
import * as tf from "@tensorflow/tfjs";
import process from "node:process";
import { parseArgs } from "node:util";
import type { AlgorithmName } from "../lib/algorithms/table.ts";
import * as engine from "../lib/engines/engine.ts";
import { attach } from "../lib/layers/attach.ts";
import { createFor } from "../lib/layers/born.ts";
import { adam } from "../lib/training/adam.ts";

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: {
    steps: { type: "string", default: "10000" },
    engine: { type: "string", default: "auto" },
    algorithm: { type: "string", default: "lora" },
  },
});
await engine.use(values.engine as Parameters<typeof engine.use>[0]);

const { gc } = globalThis as { gc?: () => void };
if (!gc) {
  console.error(
    "Cannot tell leaks from garbage as that must be collected: run it with --v8-flags=--expose-gc",
  );
  process.exit(2);
}

/** MiB by which resident memory may differ between two readings. */
const SLACK = 16;
const steps = Number(values.steps), every = Math.max(1, Math.floor(steps / 10));

const layer = tf.layers.conv2d({
  filters: 16,
  kernelSize: 3,
  padding: "same",
  inputShape: [8, 8, 8],
});
tf.sequential({ layers: [layer] });
attach(layer, createFor(layer, values.algorithm as AlgorithmName, 4, {}));
const variables = layer.trainableWeights.map((weight) => weight.read() as tf.Variable);
const x = tf.randomNormal([4, 8, 8, 8]), y = tf.randomNormal([4, 8, 8, 16]);
const optimizer = adam(1e-3);
const loss = () => {
  const output = layer.apply(x, { training: true }) as tf.Tensor;
  return tf.losses.meanSquaredError(y, output) as tf.Scalar;
};

/** What is held once everything has been made and compiled: half way. */
let first: { tensors: number; mib: number } | undefined, grown = false;
for (let step = 1; step <= steps; step++) {
  optimizer.minimize(loss, false, variables);
  if (step % every !== 0) continue;
  gc();
  const now = { tensors: tf.memory().numTensors, mib: process.memoryUsage().rss / 2 ** 20 };
  if (step >= steps / 2) first ??= now;
  grown = first !== undefined &&
    (now.tensors !== first.tensors || now.mib > first.mib + SLACK);
  console.log(`step ${step}: ${now.tensors} tensors, ${now.mib.toFixed(0)} MiB resident`);
}
console.log(grown ? "memory has grown" : "memory is flat");
process.exit(grown ? 1 : 0);
