/**
 * What does an algorithm add to a layer? Milliseconds of a training step and of a forward pass by the route that the
 * library chooses, beside the base layer alone.
 *
 * `bench/algorithms.ts [--engine NAME] [--rank 8] [--case WORD] [--quick]`
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { table } from "../lib/display/table.ts";
import * as engine from "../lib/engines/engine.ts";
import { fits, PLACES, WAYS } from "./support/cases.ts";
import { interleaved } from "./support/measure.ts";
import { step } from "./support/step.ts";

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: {
    engine: { type: "string", default: "auto" },
    rank: { type: "string", default: "8" },
    case: { type: "string", default: "" },
    quick: { type: "boolean", default: false },
  },
});
await engine.use(values.engine as Parameters<typeof engine.use>[0]);

const span = values.quick ? { rounds: 2, budget: 30 } : { rounds: 3, budget: 150 };
const rows = [];
for (const place of values.quick ? PLACES.slice(0, 1) : PLACES) {
  const ways = WAYS.filter((way) => fits(way, place) && place.name.includes(values.case));
  const steps = ways.map((way) => step(place, way, { rank: Number(values.rank) }));
  const times = await interleaved(steps.map(({ run }) => run), span);
  const passes = await interleaved(steps.map(({ forward }) => forward), span);
  for (const { dispose } of steps) dispose();
  const over = (all: number[], i: number) => `${(100 * (all[i] / all[0] - 1)).toFixed(0)} %`;
  rows.push(...ways.map((way, i) => ({
    layer: place.name,
    algorithm: way.name,
    "step, ms": times[i].toFixed(2),
    "over base": over(times, i),
    "forward, ms": passes[i].toFixed(2),
    "over base's": over(passes, i),
  })));
}
console.log(`Algorithms at rank ${values.rank} on engine ${engine.name}:\n${table(rows)}`);
