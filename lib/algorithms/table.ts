/** Every algorithm by name. To add one: its file, and a row here. */
import type { Tensor } from "@tensorflow/tfjs";
import type { Shape } from "../tensor/shape.ts";
import type { Algorithm, Factors } from "./algorithm.ts";
import * as boft from "./boft.ts";
import * as dylora from "./dylora.ts";
import * as full from "./full.ts";
import * as glora from "./glora.ts";
import * as ia3 from "./ia3.ts";
import * as loha from "./loha.ts";
import * as lokr from "./lokr.ts";
import * as lora from "./lora.ts";
import * as norm from "./norm.ts";
import * as oft from "./oft.ts";
import * as tlora from "./tlora.ts";

/** An algorithm, and what an adapter of it may be asked. */
export interface Row {
  algorithm: Algorithm<Factors>;
  /** the options that it takes, besides `seed` and `moduleDropout` */
  options: readonly string[];
  /** has a rank */
  ranked: boolean;
  /** ΔW is multiplied by alpha / rank */
  scaled: boolean;
  /** a rank above that of the kernel as a matrix is a mistake */
  bounded: boolean;
  /** ΔW depends on the base kernel */
  relative: boolean;
  /** whether a kernel can be adapted at a rank, where some cannot */
  fits?: (shape: Shape, rank: number) => boolean;
  /** the factors that are born zero beside others that are not, so that they alone have a gradient at birth */
  zero?: RegExp;
  /** factors that are no part of training */
  frozen?: readonly string[];
  /** one plain pair of the same ΔW, where there is one without the base */
  lowRank?: (factors: Factors) => { down: Tensor; up: Tensor };
}

const row = <F extends Factors>(
  algorithm: Algorithm<F> & { lowRank?: (factors: F) => { down: Tensor; up: Tensor } },
  options: readonly string[],
  rest: Partial<Omit<Row, "algorithm" | "lowRank" | "options">> = {},
): Row => ({
  algorithm,
  options,
  ranked: true,
  scaled: true,
  bounded: true,
  relative: false,
  ...rest,
  lowRank: algorithm.lowRank,
} as Row);

const SCALE = ["alpha", "rankScale"], DORA = ["dora", "base"];
const CHANNELS = ["rankDropout", "rankDropoutScale"], DROPOUTS = ["dropout", ...CHANNELS];
/** of a scaled ΔW that does not depend on the base */
const ALONE = [...SCALE, ...DORA, ...DROPOUTS];
const RANKLESS = { ranked: false, scaled: false, bounded: false };
const ROTATION = { scaled: false, bounded: false, relative: true };

export const ALGORITHMS = {
  lora: row(lora, ["tucker", "scalar", "init", ...ALONE], {
    zero: /^up$/,
    frozen: ["bornDown", "bornUp"],
  }),
  loha: row(loha, ["tucker", "scalar", ...ALONE], { zero: /^up2$/ }),
  lokr: row(
    lokr,
    ["tucker", "scalar", "factor", "decomposeBoth", "full", "unbalanced", ...ALONE],
    { bounded: false, zero: /^(w2|down2)$/ },
  ),
  ia3: row(ia3, ["onInput"], { ...RANKLESS, relative: true }),
  dylora: row(dylora, ["block", "alpha"], { zero: /^up\d+$/ }),
  full: row(full, ["bias", ...CHANNELS], RANKLESS),
  norm: row(norm, ["bias", ...CHANNELS], RANKLESS),
  oft: row(oft, ["rescaled", "constraint", "rankDropout"], ROTATION),
  boft: row(boft, ["rescaled", "constraint"], { ...ROTATION, fits: boft.fits }),
  glora: row(glora, ["scalar", ...SCALE, ...DROPOUTS], { relative: true, zero: /^down[AB]$/ }),
  tlora: row(tlora, ["triplets", "base", "alpha", ...DROPOUTS], { relative: true }),
};

/** `lora`, `loha`, `lokr`, `ia3`, `dylora`, `full`, `norm`, `oft`, `boft`, `glora`, `tlora`. */
export type AlgorithmName = keyof typeof ALGORITHMS;

/** The row of an algorithm. */
export function rowOf(name: AlgorithmName): Row {
  return ALGORITHMS[name];
}
