/**
 * DyLoRA: ΔW = Σ_j down_j · up_j over blocks of ranks, each trained to be useful after the ones before it.
 *
 * Valipour et al., "DyLoRA: Parameter-Efficient Tuning of Pretrained Models using Dynamic Search-Free
 * Low-Rank Adaptation", arXiv 2210.07558 (LyCORIS, `DyLoraModule`). In a training step a number b of blocks is
 * drawn, only those are used and only the last of them is trained ({@link trainable}); whoever reads the
 * result may stop after any block ({@link narrow}).
 */
import * as tf from "@tensorflow/tfjs";
import { constant } from "../tensor/constant.ts";
import type { Geometry } from "../tensor/geometry.ts";
import type { Shape } from "../tensor/shape.ts";
import type { Cost, CostOptions, InitOptions } from "./algorithm.ts";
import * as lora from "./lora.ts";

/**
 * `down0 up0 down1 up1 …`: LoRA's `down` and `up`, a block of ranks each. They are tensors apart so that a step
 * that trains one block leaves the others, and what an optimizer remembers of them, untouched.
 */
export type Factors = { readonly [name: `${"down" | "up"}${number}`]: tf.Tensor };

/** How many ranks a block has when nothing is said: 4, LyCORIS's default, where that divides the rank. */
export function defaultBlock(rank: number): number {
  return rank % 4 === 0 ? 4 : 1;
}

/**
 * LoRA's birth, block by block.
 *
 * @throws {RangeError} when the block does not divide the rank
 */
export function init(shape: Shape, rank: number, options: InitOptions = {}): Factors {
  const { block = defaultBlock(rank), seed } = options;
  if (!(block >= 1) || rank % block !== 0) {
    throw new RangeError(
      `Cannot create dylora of rank ${rank} as its block must divide the rank: current block is ${block}`,
    );
  }
  const whole = lora.init(shape, rank, { seed });
  const factors = tf.tidy(() => split(whole, block));
  tf.dispose(whole);
  return factors;
}

/** One LoRA cut into blocks: the inverse of {@link join}. */
export function split({ down, up }: lora.Factors, block: number): Factors {
  return tf.tidy(() => {
    const downs = tf.split(down, up.shape[0] / block, -1),
      ups = tf.split(up, up.shape[0] / block, 0);
    return Object.fromEntries(
      downs.flatMap((down, j) => [[`down${j}`, down], [`up${j}`, ups[j]]]),
    );
  });
}

/** All blocks side by side: one LoRA of the same ΔW. */
export function join(factors: Factors): lora.Factors {
  const js = Array.from({ length: blocks(factors) }, (_, j) => j);
  return tf.tidy(() => ({
    down: tf.concat(js.map((j) => factors[`down${j}`]), -1),
    up: tf.concat(js.map((j) => factors[`up${j}`]), 0),
  }));
}

/** How many blocks there are. */
export function blocks(factors: { readonly [name: string]: unknown }): number {
  return Object.keys(factors).filter((name) => /^down\d+$/.test(name)).length;
}

/** The first `count` blocks, as they are. */
export function narrow(factors: Factors, count: number): Factors {
  return Object.fromEntries(
    Array.from({ length: count }, (_, j) => j)
      .flatMap((j) => [[`down${j}`, factors[`down${j}`]], [`up${j}`, factors[`up${j}`]]]),
  );
}

/** The first `count` blocks, of which only the last lets a gradient through. */
export function trainable(factors: Factors, count: number): Factors {
  const before = narrow(factors, count - 1), last = narrow(factors, count);
  const fixed = Object.entries(before).map(([name, tensor]) => [name, constant(tensor)]);
  return { ...last, ...Object.fromEntries(fixed) };
}

/** ΔW of the blocks given. */
export function delta(factors: Factors): tf.Tensor {
  return tf.tidy(() => lora.delta(join(factors)));
}

/** op(x; ΔW) of the blocks given, as LoRA's. */
export function bypass(factors: Factors, x: tf.Tensor, geometry: Geometry = {}): tf.Tensor {
  return tf.tidy(() => lora.bypass(join(factors), x, geometry));
}

/** That of a LoRA of the same rank. */
export function cost(shape: Shape, rank: number, options: CostOptions = {}): Cost {
  return lora.cost(shape, rank, { ...options, factors: {} });
}

/** All blocks as one LoRA. */
export const lowRank: (factors: Factors) => { down: tf.Tensor; up: tf.Tensor } = join;
