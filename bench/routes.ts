/**
 * Which route is fastest for an algorithm and a shape, and does the library choose it? Milliseconds of a training
 * step (forward, gradients of input and factors) by each route, and what is lost by the one chosen.
 *
 * `bench/routes.ts [--engine NAME] [--rank 8] [--case WORD] [--quick]`
 */
import { parseArgs } from "node:util";
import process from "node:process";
import { cheapest, hasHybrid, type Route, ROUTES } from "../lib/adapter/route.ts";
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
const rank = Number(values.rank);

const span = values.quick ? { rounds: 2, budget: 30 } : { rounds: 3, budget: 150 };
const rows = [];
for (const place of values.quick ? PLACES.slice(0, 1) : PLACES) {
  for (const way of WAYS.filter((way) => way.algorithm && fits(way, place))) {
    if (!`${place.name} ${way.name}`.includes(values.case)) continue;
    const plain = step(place, way, { rank }), { kernel, x } = place;
    const pass = { kernel, x, geometry: { padding: "same" as const }, training: true };
    const chosen = cheapest([plain.adapter!], pass);
    const routes = ROUTES.filter((route) => route !== "hybrid" || hasHybrid(plain.adapter!));
    plain.dispose();
    const steps = routes.map((route) => step(place, way, { rank, route }));
    const times = await interleaved(steps.map(({ run }) => run), span);
    for (const { dispose } of steps) dispose();
    const of = (route: Route) => routes.includes(route) ? times[routes.indexOf(route)] : undefined;
    const ms = (route: Route) => of(route)?.toFixed(2) ?? "";
    const lost = of(chosen)! / Math.min(...times) - 1;
    rows.push({
      layer: place.name,
      algorithm: way.name,
      "bypass, ms": ms("bypass"),
      "rebuild, ms": ms("rebuild"),
      "hybrid, ms": ms("hybrid"),
      chosen,
      lost: `${(100 * lost).toFixed(0)} %`,
    });
  }
}
console.log(`A training step at rank ${rank} on engine ${engine.name}, by route:\n${table(rows)}`);
