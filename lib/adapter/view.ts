/**
 * An adapter as one pass sees it: which factors take part, at what scale, what is dropped.
 *
 * All that differs between a training step and everything else is decided here, once a pass, so that the
 * weight side (`merge.ts`) and the activation side (`forward.ts`) of a pass agree.
 */
import * as tf from "@tensorflow/tfjs";
import type { Factors } from "../algorithms/algorithm.ts";
import * as dylora from "../algorithms/dylora.ts";
import * as oft from "../algorithms/oft.ts";
import { outputs } from "../tensor/shape.ts";
import { type Adapter, scale } from "./adapter.ts";

/** What one pass uses of an adapter. */
export interface View {
  readonly adapter: Adapter;
  readonly factors: Factors;
  readonly scale: number;
  /** `[O]`: what each output channel of ΔW is multiplied by */
  readonly mask?: tf.Tensor;
  /** probability that a number of op(x; ΔW) is dropped */
  readonly dropout: number;
}

/** How a pass differs from "all of it". */
export interface PassOptions {
  /** draw what a training step draws: DyLoRA's block and the dropouts; default false */
  training?: boolean;
  /** where a training step draws from, uniform in [0, 1); default `Math.random` */
  random?: () => number;
  /**
   * DyLoRA, T-LoRA: how many of the first ranks take part; default all, which of DyLoRA are drawn in training.
   * `ranksAt` of T-LoRA says how many at a noise level.
   */
  active?: number;
  /** LoRA: rank dropout drops ranks between `down` and `up`, as in LyCORIS's bypass mode, not output channels */
  dropRanks?: boolean;
}

/** One where a number is above p, else zero; divided by its mean if asked, so that the mean stays 1. */
export function dropoutMask(numbers: readonly number[], p: number, rescale: boolean): number[] {
  const mask = numbers.map((number): number => (number > p ? 1 : 0));
  const mean = mask.reduce((sum, kept) => sum + kept, 0) / mask.length;
  return rescale && mean > 0 ? mask.map((kept) => kept / mean) : mask;
}

/** The blocks of a DyLoRA that `ranks` ranks are. */
function blocksOf({ block = 1, rank, factors }: Adapter, ranks = rank): number {
  const count = ranks / block;
  if (!Number.isInteger(count) || count < 1 || count > dylora.blocks(factors)) {
    throw new RangeError(
      `Cannot use dylora at rank ${ranks} as it must be a multiple of its block ${block} up to ${rank}`,
    );
  }
  return count;
}

/** OFT, BOFT: the blocks held to the adapter's constraint. */
function held({ constraint = 0, factors }: Adapter): Factors {
  if (constraint === 0 || !factors.blocks) return factors;
  const [n, b] = factors.blocks.shape.slice(-3), limit = constraint * n * b;
  return { ...factors, blocks: oft.constrain(factors.blocks, limit) };
}

/** Ones for the first ranks of so many. */
function firstRanks(active: number, rank: number): tf.Tensor {
  if (!Number.isInteger(active) || active < 0 || active > rank) {
    throw new RangeError(
      `Cannot use tlora at rank ${active} as it must be a whole number from 0 to ${rank}`,
    );
  }
  return tf.tensor1d(Array.from({ length: rank }, (_, i) => (i < active ? 1 : 0)));
}

/** The view of a pass, or none when the adapter sits this one out. */
export function view(adapter: Adapter, options: PassOptions = {}): View | undefined {
  const { training = false, random = Math.random, active, dropRanks = false } = options;
  const { dropout, rankDropout, rankDropoutScale, moduleDropout } = adapter.dropouts;
  if (training && moduleDropout > 0 && random() < moduleDropout) return undefined;
  const mask = (length: number) =>
    dropoutMask(Array.from({ length }, random), rankDropout, rankDropoutScale);

  let factors = held(adapter), channels: tf.Tensor | undefined;
  if (adapter.algorithm === "dylora") {
    const all = adapter.factors as dylora.Factors;
    factors = training && active === undefined
      ? dylora.trainable(all, 1 + Math.floor(random() * dylora.blocks(all)))
      : dylora.narrow(all, blocksOf(adapter, active));
  }
  if (adapter.algorithm === "tlora" && active !== undefined) {
    factors = { ...factors, mask: firstRanks(active, adapter.rank) };
  }
  if (training && rankDropout > 0) {
    if (adapter.algorithm === "oft") {
      // LyCORIS drops numbers of R, and divides by what is left whether asked or not
      const { shape, size } = factors.blocks!, kept = tf.tensor(mask(size), shape);
      factors = { ...factors, mask: tf.div(kept, 1 - rankDropout) };
    } else if (dropRanks && adapter.algorithm === "lora") {
      const ranks = tf.tensor2d(mask(adapter.rank), [adapter.rank, 1]);
      const { up, bornUp } = factors;
      factors = {
        ...factors,
        up: tf.mul(up!, ranks),
        ...(bornUp && { bornUp: tf.mul(bornUp, ranks) }),
      };
    } else channels = tf.tensor1d(mask(outputs(adapter.shape)));
  }
  return {
    adapter,
    factors,
    scale: scale({ ...adapter, factors }),
    mask: channels,
    dropout: training ? dropout : 0,
  };
}
