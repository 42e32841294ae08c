/**
 * How fast is each engine at what a layer is made of? GFLOP/s (two a multiply-add) of convolutions and matrix products,
 * forward and both gradients, of every engine that this machine has.
 *
 * `bench/engines.ts [--quick]`
 */
import process from "node:process";
import { parseArgs } from "node:util";
import * as tf from "@tensorflow/tfjs";
import { table } from "../lib/display/table.ts";
import * as engine from "../lib/engines/engine.ts";
import { convolve, inputGradient, kernelGradient } from "../lib/tensor/convolve.ts";
import { size } from "../lib/tensor/shape.ts";
import { type Place, PLACES } from "./support/cases.ts";
import { interleaved } from "./support/measure.ts";

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: { quick: { type: "boolean", default: false } },
});

/** LoRA's two thin layers beside the whole ones. */
const THIN: Place[] = [
  { name: "down of rank 8 [2,64,64,320]→8", x: [2, 64, 64, 320], kernel: [3, 3, 320, 8] },
  { name: "up of rank 8 [8192,8]→320", x: [8192, 8], kernel: [8, 320] },
];
/** `cpu` is ten thousand times slower: it is for checking. */
const names = (await engine.list()).filter(({ name, available }) =>
  available === true && name !== "cpu"
).map(({ name }) => name);
const span = values.quick ? { rounds: 2, budget: 20 } : { rounds: 3, budget: 200 };
const rows: Record<string, string>[] = [];

for (
  const { name: layer, x: shape, kernel } of values.quick
    ? PLACES.slice(0, 1)
    : [...PLACES, ...THIN]
) {
  const ways: [engine: string, what: string, run: () => void][] = [];
  const made: tf.Tensor[] = [];
  for (const name of names) {
    await engine.use(name);
    const geometry = { padding: "same" as const };
    const x = tf.randomNormal(shape), W = tf.randomNormal(kernel), y = convolve(x, W, geometry);
    made.push(x, W, y);
    const timed = (
      what: string,
      compute: () => tf.Tensor,
    ): typeof ways[number] => [name, what, () => {
      tf.setBackend(name);
      compute().dispose();
    }];
    ways.push(
      timed("forward", () => convolve(x, W, geometry)),
      timed("input gradient", () => inputGradient(y, W, shape, geometry)),
      timed("kernel gradient", () => kernelGradient(x, y, kernel, geometry)),
    );
  }
  const flops = 2 * size(kernel) * size(shape.slice(0, -1)),
    times = await interleaved(ways.map(([, , run]) => run), span);
  for (const what of ["forward", "input gradient", "kernel gradient"]) {
    const speeds = ways.flatMap(([name, which], i) =>
      which === what ? [[`${name}, GFLOP/s`, (flops / times[i] / 1e6).toFixed(1)]] : []
    );
    rows.push({ layer, what, ...Object.fromEntries(speeds) });
  }
  tf.dispose(made);
}
console.log(`Engines (the least time of ${span.rounds} rounds):\n${table(rows)}`);
