/** A program for tests to start, and to kill: `trainee.ts STEPS` trains on the engine that "auto" chooses. */
import process from "node:process";
import * as tf from "@tensorflow/tfjs";
import * as engine from "../../lib/engines/engine.ts";

/** Prints the engine and what every other says; then a line for each step. */
async function main(steps: number): Promise<void> {
  const engines = await engine.list();
  console.log(JSON.stringify({ name: await engine.use("auto"), engines }));
  const model = tf.sequential({
    layers: [
      tf.layers.conv2d({ inputShape: [8, 8, 3], filters: 8, kernelSize: 3, activation: "relu" }),
      tf.layers.flatten(),
      tf.layers.dense({ units: 2 }),
    ],
  });
  model.compile({ optimizer: "adam", loss: "meanSquaredError" });
  const x = tf.ones([4, 8, 8, 3]), y = tf.ones([4, 2]);
  for (let step = 1; step <= steps; step++) {
    console.log(`step ${step}: ${await model.trainOnBatch(x, y)}`);
    await new Promise((resolve) => setTimeout(resolve)); // the line is out before the next step
  }
}

if (import.meta.main) await main(Number(process.argv[2]));
