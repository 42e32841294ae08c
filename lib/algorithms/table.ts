/** Every algorithm by name. To add one: its file, and a row here. */
import type { Tensor } from "@tensorflow/tfjs";
import type { Algorithm, Factors, InitOptions } from "./algorithm.ts";
import * as dylora from "./dylora.ts";
import * as ia3 from "./ia3.ts";
import * as loha from "./loha.ts";
import * as lokr from "./lokr.ts";
import * as lora from "./lora.ts";

/** An algorithm, and what an adapter of it may be asked. */
export interface Row {
  algorithm: Algorithm<Factors>;
  /** the options of birth that it reads, besides `seed` */
  options: readonly (keyof InitOptions)[];
  /** ΔW is multiplied by alpha / rank */
  scaled: boolean;
  /** takes what is done to a ΔW that stands by itself: a magnitude (DoRA), dropout, rank dropout */
  decomposes: boolean;
  /** a rank above that of the kernel as a matrix is a mistake */
  bounded: boolean;
  /** one plain pair of the same ΔW, where there is one without the base */
  lowRank?: (factors: Factors) => { down: Tensor; up: Tensor };
}

const row = <F extends Factors>(
  algorithm: Algorithm<F> & { lowRank?: (factors: F) => { down: Tensor; up: Tensor } },
  rest: Omit<Row, "algorithm" | "lowRank">,
): Row => ({ ...rest, algorithm, lowRank: algorithm.lowRank } as Row);

export const ALGORITHMS = {
  lora: row(lora, {
    options: ["tucker", "scalar"],
    scaled: true,
    decomposes: true,
    bounded: true,
  }),
  loha: row(loha, {
    options: ["tucker", "scalar"],
    scaled: true,
    decomposes: true,
    bounded: true,
  }),
  lokr: row(lokr, {
    options: ["tucker", "scalar", "factor", "decomposeBoth", "full", "unbalanced"],
    scaled: true,
    decomposes: true,
    bounded: false,
  }),
  ia3: row(ia3, { options: ["onInput"], scaled: false, decomposes: false, bounded: false }),
  dylora: row(dylora, { options: ["block"], scaled: true, decomposes: false, bounded: true }),
};

/** `lora`, `loha`, `lokr`, `ia3`, `dylora`. */
export type AlgorithmName = keyof typeof ALGORITHMS;

/** The row of an algorithm. */
export function rowOf(name: AlgorithmName): Row {
  return ALGORITHMS[name];
}
