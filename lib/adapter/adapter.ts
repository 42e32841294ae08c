/**
 * An adapter: one ΔW of one kernel as a plain value, and the scale it is used at.
 *
 * `W′ = W + s · scale · ΔW` is written out in `merge.ts`; how an adapter acts on activations in `forward.ts`.
 */
import * as tf from "@tensorflow/tfjs";
import type { Factors, InitOptions, Triplets } from "../algorithms/algorithm.ts";
import { blocks, defaultBlock } from "../algorithms/dylora.ts";
import { type AlgorithmName, rowOf } from "../algorithms/table.ts";
import { outputs, same, type Shape, show } from "../tensor/shape.ts";
import { tidy } from "../tensor/tidy.ts";
import { type Axis, norms } from "./decompose.ts";

/** How the rank enters the scale: α/r as in LoRA, or α/√r as in rsLoRA (Kalajdzievski, arXiv 2312.03732). */
export type RankScale = "alpha/r" | "alpha/sqrt(r)";

/** What every adapter may be told besides its rank. Names are this library's, meanings are LyCORIS's. */
export interface AdapterOptions extends InitOptions {
  /** ΔW is multiplied by α/r; left out or 0 it is the rank, so that the scale is 1 */
  alpha?: number;
  /** default "alpha/r" */
  rankScale?: RankScale;
  /** DoRA: W′ keeps a trained length for each output (LyCORIS `wd_on_out`) or each input channel; default false */
  dora?: false | Axis;
  /** OFT, BOFT: ‖Q‖ is held to this times O, which bounds all angles together; default 0, which bounds none */
  constraint?: number;
  /** probability that a number of op(x; ΔW) is dropped in a training step */
  dropout?: number;
  /**
   * probability that an output channel of ΔW (and of Δb) is dropped in a training step, as LyCORIS does; where the
   * route is forced to bypass it is a rank of LoRA that is dropped, as in LyCORIS's bypass mode; of OFT a number of R
   */
  rankDropout?: number;
  /** divide what rank dropout keeps by its share, so that the mean stays */
  rankDropoutScale?: boolean;
  /** probability that the whole adapter sits out a training step */
  moduleDropout?: number;
}

/** Probabilities of sitting out a training step, in part or whole. */
export interface Dropouts {
  readonly dropout: number;
  readonly rankDropout: number;
  readonly rankDropoutScale: boolean;
  readonly moduleDropout: number;
}

/** One ΔW as a value. Verbs are functions on it; the tensors belong to whoever made it (`dispose`). */
export interface Adapter<F extends Factors = Factors> {
  readonly algorithm: AlgorithmName;
  /** of the kernel, `[...k, I/G, O]`; −1 where a file does not tell and the layer must */
  readonly shape: Shape;
  /** of OFT and BOFT the size of a block; 0 for (IA)^3, full and norm, which have none */
  readonly rank: number;
  readonly alpha: number;
  readonly rankScale: RankScale;
  /** what is trained: the algorithm's factors, `bias` among them, and `scalar` and `magnitude` where asked for */
  readonly factors: F & { readonly scalar?: tf.Tensor; readonly magnitude?: tf.Tensor };
  readonly dora: false | Axis;
  readonly dropouts: Dropouts;
  /** DyLoRA: ranks a block */
  readonly block?: number;
  /** OFT, BOFT: the largest ‖Q‖ as a multiple of O, 0 for any */
  readonly constraint?: number;
  /** T-LoRA: what it was born as; left out, the principal triplets */
  readonly triplets?: Triplets;
}

/** The names of the options that an algorithm reads. */
export function optionsOf(algorithm: AlgorithmName): string[] {
  return [...rowOf(algorithm).options, "seed", "moduleDropout"];
}

/** Throws unless every option is one that the algorithm reads, with a value that it can have. */
export function checkOptions(
  algorithm: AlgorithmName,
  options: AdapterOptions,
  verb = "create",
): void {
  const known = optionsOf(algorithm);
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) {
      throw new TypeError(
        `Cannot ${verb} ${algorithm} as its options are ${
          known.join(", ")
        }: current option is ${name}`,
      );
    }
  }
  const { alpha = 0, rankScale = "alpha/r", dora = false, constraint = 0 } = options;
  const { triplets = "principal", init } = options;
  const refuse = (rule: string, value: unknown): never => {
    throw new RangeError(`Cannot ${verb} ${algorithm} as ${rule}: current value is ${value}`);
  };
  if (!Number.isFinite(alpha)) refuse("alpha must be a finite number", alpha);
  if (!["alpha/r", "alpha/sqrt(r)"].includes(rankScale)) {
    refuse('rankScale must be "alpha/r" or "alpha/sqrt(r)"', rankScale);
  }
  if (![false, "output", "input"].includes(dora)) {
    refuse('dora must be false, "output" or "input"', dora);
  }
  if (!(constraint >= 0 && constraint < Infinity)) {
    refuse("constraint must be at least 0 and finite", constraint);
  }
  if (!["principal", "last", "middle"].includes(triplets)) {
    refuse('triplets must be "principal", "last" or "middle"', triplets);
  }
  if (init !== undefined && !["pissa", "olora"].includes(init)) {
    refuse('init must be "pissa" or "olora"', init);
  }
  if (init === "pissa" && alpha < 0) refuse("alpha must be above 0 with pissa", alpha);
  for (const name of ["dropout", "rankDropout", "moduleDropout"] as const) {
    const p = options[name] ?? 0;
    if (!(p >= 0 && p < 1)) refuse(`${name} must be at least 0 and below 1`, p);
  }
}

/**
 * An adapter of a kernel, born so that ΔW = 0.
 *
 * @param shape of the kernel, `[kh, kw, I/G, O]`, dense `[I, O]`; of a normalization `[C]`
 * @throws {TypeError} for an option that the algorithm does not have, a shape that it has no use for, or `dora`, `init` or
 * T-LoRA without `base`
 * @throws {RangeError} for a rank, alpha or probability out of range
 */
export function create(
  algorithm: AlgorithmName,
  shape: Shape,
  rank: number,
  options: AdapterOptions = {},
): Adapter {
  checkOptions(algorithm, options);
  const { ranked, algorithm: { init } } = rowOf(algorithm);
  if (
    shape.length < (algorithm === "norm" ? 1 : 2) ||
    shape.some((length) => !Number.isInteger(length) || length < 1)
  ) {
    throw new TypeError(
      `Cannot create ${algorithm} as a kernel is [...k, I/G, O]: current shape is ${show(shape)}`,
    );
  }
  if (ranked && (!Number.isInteger(rank) || rank < 1)) {
    throw new RangeError(
      `Cannot create ${algorithm} as rank must be a whole number of at least 1: current rank is ${rank}`,
    );
  }
  const { dora = false, base, scalar = false, rankScale = "alpha/r" } = options;
  if (dora && !(base && same(base.shape, shape))) {
    throw new TypeError(
      `Cannot create ${algorithm} with dora as it starts from the lengths of a kernel ${
        show(shape)
      }: ` +
        `current base is ${base ? show(base.shape) : "undefined"}, pass { base: kernel }`,
    );
  }
  const factors = tidy((): Factors => ({
    ...init(shape, rank, options),
    ...(scalar && { scalar: tf.scalar(0) }),
    ...(dora && { magnitude: norms(base!, dora) }),
  }));
  const adapter: Adapter = {
    algorithm,
    shape,
    rank: factors.blocks ? outputs(factors.blocks.shape) : ranked ? rank : 0,
    alpha: options.alpha || rank || 1,
    rankScale,
    factors,
    dora,
    dropouts: {
      dropout: options.dropout ?? 0,
      rankDropout: options.rankDropout ?? 0,
      rankDropoutScale: options.rankDropoutScale ?? false,
      moduleDropout: options.moduleDropout ?? 0,
    },
    ...(algorithm === "dylora" && { block: options.block ?? defaultBlock(rank) }),
    ...(options.constraint && { constraint: options.constraint }),
    ...(options.triplets && { triplets: options.triplets }),
  };
  return options.init === "pissa" ? shared(adapter) : adapter;
}

/** The same with factors divided by √scale: scale · down · up is what they were made as. As PEFT's PiSSA has it. */
function shared(adapter: Adapter): Adapter {
  const share = Math.sqrt(scale(adapter));
  if (share === 1) return adapter;
  const divided = mapFactors(
    adapter,
    (tensor, name) => name === "magnitude" ? tf.clone(tensor) : tf.div(tensor, share),
  );
  dispose(adapter);
  return divided;
}

/**
 * What ΔW is multiplied by: α/r, or α/√r under rsLoRA; the one place where it is computed.
 *
 * - (IA)^3, full and norm have no rank, OFT and BOFT rotate: 1.
 * - LoKr with both parts whole has no rank either: LyCORIS trains it with α = r, so 1 (√r under rsLoRA,
 *   its bug B8: files read back at 1, which `lib/files` makes good by folding the √r into `w1`).
 * - DyLoRA with `active` blocks: α / blocks, not α / ranks, as LyCORIS trains it (its bug B3; its files are read
 *   at α/r, which `lib/files` makes good by storing α · block).
 */
export function scale(adapter: Omit<Adapter, "factors"> & { factors: Factors }): number {
  const { algorithm, rank, alpha, rankScale, factors } = adapter;
  if (!rowOf(algorithm).scaled) return 1;
  if (algorithm === "dylora") return alpha / blocks(factors);
  const divisor = rankScale === "alpha/r" ? rank : Math.sqrt(rank);
  const whole = algorithm === "lokr" && factors.w1 !== undefined && factors.w2 !== undefined;
  return (whole ? rank : alpha) / divisor;
}

/** The tensors of an adapter, in the order of its factors' names. */
export function tensors(adapter: Adapter): [name: string, tensor: tf.Tensor][] {
  return Object.entries(adapter.factors).filter((entry): entry is [string, tf.Tensor] =>
    entry[1] !== undefined
  );
}

/** The tensors of an adapter that are trained: all but what a birth from the base has left. */
export function trained(adapter: Adapter): [name: string, tensor: tf.Tensor][] {
  const { frozen = [] } = rowOf(adapter.algorithm);
  return tensors(adapter).filter(([name]) => !frozen.includes(name));
}

/** Whether a factor is zero when an adapter is born otherwise than from its base, beside others that are not. */
export function bornZero({ algorithm, factors }: Adapter, name: string): boolean {
  return factors.scalar ? name === "scalar" : rowOf(algorithm).zero?.test(name) ?? false;
}

/** How many numbers are trained. */
export function parameters(adapter: Adapter): number {
  return trained(adapter).reduce((sum, [, { size }]) => sum + size, 0);
}

/** The same adapter with other tensors in the place of its factors. */
export function mapFactors(
  adapter: Adapter,
  change: (tensor: tf.Tensor, name: string) => tf.Tensor,
): Adapter {
  const factors = tensors(adapter).map(([name, tensor]) => [name, change(tensor, name)]);
  return { ...adapter, factors: Object.fromEntries(factors) };
}

/** A copy with tensors of its own. */
export function copy(adapter: Adapter): Adapter {
  return mapFactors(adapter, (tensor) => tf.clone(tensor));
}

/** Frees the tensors of an adapter. */
export function dispose(adapter: Adapter): void {
  tf.dispose(tensors(adapter).map(([, tensor]) => tensor));
}
