/** An adapter from factors that were not trained but computed. */
import type { Factors } from "../algorithms/algorithm.ts";
import type { AlgorithmName } from "../algorithms/table.ts";
import type { Shape } from "../tensor/shape.ts";
import type { Adapter } from "./adapter.ts";

/** The adapter of these factors, which go over into it: alpha is the rank, so that its scale is 1; no magnitude, no dropout. */
export function plain<F extends Factors>(
  algorithm: AlgorithmName,
  shape: Shape,
  rank: number,
  factors: F,
): Adapter<F> {
  return {
    algorithm,
    shape,
    rank,
    alpha: rank || 1,
    rankScale: "alpha/r",
    factors,
    dora: false,
    dropouts: { dropout: 0, rankDropout: 0, rankDropoutScale: false, moduleDropout: 0 },
  };
}
