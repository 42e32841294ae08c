/** Adapters whose factors are no longer as born. */
import * as tf from "@tensorflow/tfjs";
import {
  type Adapter,
  type AdapterOptions,
  create,
  mapFactors,
} from "../../lib/adapter/adapter.ts";
import type { AlgorithmName } from "../../lib/algorithms/table.ts";
import type { Shape } from "../../lib/tensor/shape.ts";
import { values } from "./geometries.ts";

/** An algorithm, its rank and its options. */
export type Row = [algorithm: AlgorithmName, rank: number, options: AdapterOptions];

/** Every algorithm whose ΔW is a sum of outer products by itself. */
export const ADDITIVE: Row[] = [
  ["lora", 3, { alpha: 2 }],
  ["lora", 2, { tucker: true }],
  ["lora", 3, { scalar: true, rankScale: "alpha/sqrt(r)" }],
  ["loha", 2, { alpha: 1 }],
  ["loha", 2, { tucker: true, scalar: true }],
  ["lokr", 1, { alpha: 0.5 }],
  ["lokr", 1, { factor: 2, tucker: true }],
  ["lokr", 1, { factor: 2, decomposeBoth: true, unbalanced: true }],
  ["lokr", 4, { full: true, scalar: true, rankScale: "alpha/sqrt(r)" }],
  ["dylora", 4, { block: 2, alpha: 2 }],
];

/** A row in words. */
export function told([algorithm, rank, options]: Row): string {
  const words = Object.entries(options).map(([name, value]) => `${name} ${value}`);
  return [algorithm, rank > 0 ? `rank ${rank}` : "", ...words].filter(Boolean).join(" ");
}

/** A tensor of fixed values. */
export function tensor(shape: Shape, seed: number): tf.Tensor {
  return tf.tensor(values(shape, seed), [...shape]);
}

/** An adapter of a row, as if trained; made in a tidy scope, it goes with that. */
export function trained([algorithm, rank, options]: Row, shape: Shape, seed = 0): Adapter {
  const base = options.dora ? tensor(shape, 1) : undefined;
  const born = create(algorithm, shape, rank, base ? { ...options, base } : options);
  return mapFactors(born, (factor, name) => {
    if (name === "magnitude") return tf.mul(factor, tf.add(tensor(factor.shape, 9), 1.5));
    const own = [...name].reduce((sum, letter) => sum + letter.charCodeAt(0), seed);
    return tf.mul(tensor(factor.shape, own), 0.3);
  });
}
