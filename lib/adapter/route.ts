/** Which of the three routes of `forward.ts` is the least work for a layer. */
import type { Cost } from "../algorithms/algorithm.ts";
import { rowOf } from "../algorithms/table.ts";
import { extent, type Geometry } from "../tensor/geometry.ts";
import { type Shape, space } from "../tensor/shape.ts";
import { type Adapter, parameters } from "./adapter.ts";

/** The activation side, the weight side, or W′ with the factors' gradients through their bottleneck. */
export type Route = "bypass" | "rebuild" | "hybrid";

/** The routes by name. */
export const ROUTES: readonly Route[] = ["bypass", "rebuild", "hybrid"];

/** Whether the factor gradients of an adapter have a bottleneck to go through: one pair, its ΔW as it is. */
export function hasHybrid({ algorithm, factors, dora, dropouts }: Adapter): boolean {
  const pair = algorithm === "dylora" || (algorithm === "lora" && !factors.core);
  return pair && !dora && dropouts.dropout === 0 && dropouts.rankDropout === 0;
}

/** The cost of an adapter as it is: its algorithm's `cost`, of the factors at hand and with what it trains besides. */
export function costOf(
  adapter: Adapter,
  places: { output?: Shape; input?: Shape; batch?: number } = {},
): Cost {
  const { algorithm: { cost } } = rowOf(adapter.algorithm);
  const { factors, shape, rank } = adapter;
  return { ...cost(shape, rank, { ...places, factors }), parameters: parameters(adapter) };
}

/** What a pass is, as far as its cost goes. */
export interface Pass {
  kernel: Shape;
  geometry: Geometry;
  x: Shape;
  training: boolean;
}

/**
 * The route of least counted multiply-adds for all the adapters of a layer together.
 *
 * Dropout of activations exists on the activation side only, so it decides for `bypass`, as LyCORIS's
 * `bypass_mode` has to be turned on for it. Hybrid is for one adapter, without groups.
 */
export function cheapest(adapters: readonly Adapter[], pass: Pass): Route {
  const { kernel, geometry, x, training } = pass;
  if (training && adapters.some(({ dropouts }) => dropouts.dropout > 0)) return "bypass";
  const k = space(kernel), wide = k.length > 0;
  const input = wide ? x.slice(1, -1) : x.slice(0, -1);
  const output = wide ? extent(kernel, input, geometry).output : input;
  const places = { input, output, batch: wide ? x[0] : 1 };
  const costs = adapters.map((adapter) => costOf(adapter, places));
  const work = (route: Route) =>
    costs.reduce(
      (sum, cost) => sum + (cost[route]?.[training ? "training" : "forward"] ?? Infinity),
      0,
    );
  const single = adapters.length === 1 && hasHybrid(adapters[0]) && (geometry.groups ?? 1) === 1;
  const open: Route[] = single ? ["hybrid", "bypass", "rebuild"] : ["bypass", "rebuild"];
  return open.reduce((best, route) => (work(route) < work(best) ? route : best));
}
