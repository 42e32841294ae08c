/**
 * Where does a training step's time go? Kernel by kernel: calls, milliseconds, share, and the shapes of the dearest;
 * "between kernels" is TensorFlow.js's own bookkeeping, this library's, and waiting.
 *
 * `bench/where.ts [WORD] [--engine NAME] [--rank 8] [--route NAME]`, WORD as in `"conv3×3 [8,16 lokr"`:
 * each blank-separated part must occur in the case's name.
 */
import { parseArgs } from "node:util";
import process from "node:process";
import * as tf from "@tensorflow/tfjs";
import type { Route } from "../lib/adapter/route.ts";
import { table } from "../lib/display/table.ts";
import * as engine from "../lib/engines/engine.ts";
import { fits, PLACES, WAYS } from "./support/cases.ts";
import { spy } from "./support/spy.ts";
import { step } from "./support/step.ts";

const { values, positionals: [word = "conv3×3 [8,32 lora"] } = parseArgs({
  args: process.argv.slice(2),
  options: {
    engine: { type: "string", default: "auto" },
    rank: { type: "string", default: "8" },
    route: { type: "string" },
  },
  allowPositionals: true,
});
await engine.use(values.engine as Parameters<typeof engine.use>[0]);

const RUNS = 20;
const cases = PLACES.flatMap((place) =>
  WAYS.filter((way) => fits(way, place)).map((way) => ({ place, way }))
).filter(({ place, way }) =>
  word.split(/\s+/).every((part) => `${place.name} ${way.name}`.includes(part))
);
if (cases.length === 0) {
  console.error(`Cannot look into a step as one must have that name: current name is ${word}`);
  process.exit(2);
}
for (const { place, way } of cases) {
  const { run, dispose } = step(place, way, {
    rank: Number(values.rank),
    route: way.algorithm && values.route as Route | undefined,
  });
  const { peakBytes } = await tf.profile(run);
  const spied = spy();
  let best = { whole: Infinity, calls: spied.calls() };
  try {
    for (let i = 0; i < RUNS; i++) {
      spied.calls();
      const start = performance.now();
      run();
      const whole = performance.now() - start, calls = spied.calls();
      if (whole < best.whole) best = { whole, calls };
    }
  } finally {
    spied.stop();
  }
  dispose();
  const kernels = Map.groupBy(best.calls, ({ name, shapes }) => `${name} ${shapes}`);
  const sum = (calls: { ms: number }[]) => calls.reduce((total, { ms }) => total + ms, 0);
  const between = best.whole - sum(best.calls);
  const line = (kernel: string, calls: number | string, ms: number) => ({
    kernel,
    calls,
    "ms": ms.toFixed(3),
    "share": `${(100 * ms / best.whole).toFixed(1)} %`,
  });
  const rows = [...kernels].map(([kernel, calls]) => line(kernel, calls.length, sum(calls)));
  rows.sort((a, b) => Number(b.ms) - Number(a.ms));
  rows.push(line("between kernels", "", between));
  console.log(
    `${place.name}, ${way.name}, rank ${values.rank}, engine ${engine.name}: ${
      best.whole.toFixed(2)
    } ms, the least of ${RUNS}; ${best.calls.length} kernels; ` +
      `peak of tensors ${(peakBytes / 2 ** 20).toFixed(1)} MiB\n${table(rows)}\n`,
  );
}
