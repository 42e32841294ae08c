/** Which of the three routes of `forward.ts` is the least work for a layer. */
import type { Cost, CostOptions, Work } from "../algorithms/algorithm.ts";
import * as lora from "../algorithms/lora.ts";
import { rowOf } from "../algorithms/table.ts";
import { extent, type Geometry } from "../tensor/geometry.ts";
import { inputs, outputs, type Shape, size, space } from "../tensor/shape.ts";
import { type Adapter, parameters } from "./adapter.ts";

/** The activation side, the weight side, or W′ with the factors' gradients through their bottleneck. */
export type Route = "bypass" | "rebuild" | "hybrid";

/** The routes by name. */
export const ROUTES: readonly Route[] = ["bypass", "rebuild", "hybrid"];

/**
 * Whether the factor gradients of an adapter need no full one: ΔW is a pair of LoRA's form, a product of blocks, or W
 * times channels.
 */
export function hasHybrid({ algorithm, dora, dropouts }: Adapter): boolean {
  const has = ["lora", "dylora", "loha", "ia3"].includes(algorithm) ||
    (algorithm === "lokr" && !dora);
  return has && dropouts.dropout === 0 && dropouts.rankDropout === 0;
}

/** What the hybrid route adds in multiply-adds: LoHa's is that of its LoRA of rank r², (IA)^3 convolves once less. */
function hybridWork(adapter: Adapter, cost: Cost, places: CostOptions): Work | undefined {
  const { algorithm, shape, rank } = adapter;
  if (!hasHybrid(adapter)) return undefined;
  if (algorithm === "ia3") return { forward: 0, training: 0 };
  return algorithm === "loha" ? lora.cost(shape, rank * rank, places).hybrid : cost.hybrid;
}

/** The cost of an adapter as it is: its algorithm's `cost`, of the factors at hand and with what it trains besides. */
export function costOf(
  adapter: Adapter,
  places: { output?: Shape; input?: Shape; batch?: number } = {},
): Cost {
  const { algorithm: { cost } } = rowOf(adapter.algorithm);
  const { factors, shape, rank } = adapter;
  const own = cost(shape, rank, { ...places, factors });
  const hybrid = hybridWork(adapter, own, places);
  return { ...own, parameters: parameters(adapter), ...(hybrid && { hybrid }) };
}

/** What a pass is, as far as its cost goes. */
export interface Pass {
  kernel: Shape;
  geometry: Geometry;
  x: Shape;
  training: boolean;
}

/** How often a route walks over numbers, beside the products that {@link Cost} counts. */
interface Walks {
  /** over all activations of the layer, in or out */
  activations: number;
  /** over all numbers of the kernel */
  weights: number;
}

/**
 * What reading a number and writing one costs, in multiply-adds: an elementwise pass takes 0.4 ns a number where a
 * convolution of oneDNN takes 0.009 ns a multiply-add, one of the wasm engine 0.06 (`bench/where.ts`).
 */
const WALK = 24;

/** The walks of a route, as counted in `bench/where.ts`. */
function walks({ algorithm, dora }: Adapter, route: Route, training: boolean): Walks {
  const pick = (forward: number, step: number) => training ? step : forward;
  if (route === "rebuild") {
    const own = algorithm === "loha" ? pick(2, 5) : algorithm === "lokr" ? pick(3, 7) : pick(1, 3);
    return { activations: 0, weights: own + (dora ? 6 : 0) };
  }
  if (route === "hybrid") {
    // LoKr turns the channels of x and of dy round for each of its two gradients
    if (algorithm === "lokr") return { activations: pick(0, 8), weights: pick(3, 6) };
    return {
      activations: algorithm === "ia3" || dora ? pick(0, 1) : 0,
      weights: pick(1, 2) + (dora ? 4 : 0),
    };
  }
  // the sum of outputs, in training that of the input's gradients; LoKr turns channels round, there and back
  const own = algorithm === "lokr" ? pick(8, 18) : algorithm === "ia3" ? pick(2, 6) : pick(1, 2);
  return { activations: own + (dora ? pick(3, 9) : 0), weights: dora ? 6 : 0 };
}

/**
 * The route of least counted multiply-adds and numbers moved, for all the adapters of a layer together.
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
  const activations = places.batch *
    (size(input) * inputs(kernel) + size(output) * outputs(kernel)) / 2;
  const costs = adapters.map((adapter) => costOf(adapter, places));
  const work = (route: Route) =>
    adapters.reduce((sum, adapter, i) => {
      const walked = walks(adapter, route, training);
      const moved = walked.activations * activations + walked.weights * size(kernel);
      return sum + (costs[i][route]?.[training ? "training" : "forward"] ?? Infinity) +
        WALK * moved;
    }, 0);
  const single = adapters.length === 1 && hasHybrid(adapters[0]) && (geometry.groups ?? 1) === 1;
  const open: Route[] = single ? ["hybrid", "bypass", "rebuild"] : ["bypass", "rebuild"];
  return open.reduce((best, route) => (work(route) < work(best) ? route : best));
}
