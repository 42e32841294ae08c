/**
 * T-LoRA: ΔW = P Λ Q − P₀ Λ₀ Q₀, a LoRA born as singular triplets of W, whose ranks a noise level may mask.
 *
 * Soboleva et al., "T-LoRA: Single Image Diffusion Model Customization Without Overfitting", arXiv 2507.05964 (LyCORIS,
 * `TLoraModule`). P₀ Λ₀ Q₀ is frozen and not stored: it is taken from the base's SVD again, as a product without
 * the signs and the rotations that an SVD leaves open. So it belongs to one base; LyCORIS's birth from random
 * matrices (`use_data_init=False`), which its own files lose, is not offered.
 *
 * On a kernel wider than a point Q is a kernel too, from the SVD of `[k·I/G, O]`: LyCORIS cuts it to its
 * first I rows and then raises (its bug B10).
 */
import * as tf from "@tensorflow/tfjs";
import type { Geometry } from "../tensor/geometry.ts";
import { matrix } from "../tensor/matrix.ts";
import { outputs, type Shape, size } from "../tensor/shape.ts";
import { svd } from "../tensor/svd.ts";
import type {
  Cost,
  CostOptions,
  InitOptions,
  Settings,
  Surroundings,
  Triplets,
} from "./algorithm.ts";
import { needed, parent } from "./base.ts";
import { costOf } from "./count.ts";
import * as lora from "./lora.ts";

/**
 * `down` Q `[...k, I/G, r]`, `lambda` Λ `[r]`, `up` P `[r, O]`.
 *
 * `mask` `[r]` belongs to one pass: zero for a rank that takes no part.
 */
export type Factors = {
  readonly down: tf.Tensor;
  readonly lambda: tf.Tensor;
  readonly up: tf.Tensor;
  readonly mask?: tf.Tensor;
};

/**
 * r singular triplets of the base, so that ΔW = 0.
 *
 * @throws {TypeError} without the base kernel, or one of another shape
 * @throws {RangeError} for a rank above the number of triplets
 */
export function init(
  shape: Shape,
  rank: number,
  { base, triplets }: InitOptions = {},
): Factors {
  return frozen(parent(base, shape, rank, "tlora"), rank, triplets);
}

/** ΔW = P Λ Q − P₀ Λ₀ Q₀, masked alike; exactly zero at birth. */
export function delta(factors: Factors, base?: tf.Tensor, { triplets }: Settings = {}): tf.Tensor {
  const W = needed(base, "tlora");
  return tf.tidy(() => {
    const { now, before } = both(factors, W, triplets);
    return tf.sub(lora.delta(now), lora.delta(before));
  });
}

/** op(x; ΔW): two LoRAs, one of them frozen. */
export function bypass(
  factors: Factors,
  x: tf.Tensor,
  geometry: Geometry = {},
  { base, triplets }: Surroundings = {},
): tf.Tensor {
  const W = needed(base, "tlora");
  return tf.tidy(() => {
    const { now, before } = both(factors, W, triplets);
    return tf.sub(lora.bypass(now, x, geometry), lora.bypass(before, x, geometry));
  });
}

/** Parameters r·(k·I/G + O + 1); both products are made each time. */
export function cost(shape: Shape, rank: number, options: CostOptions = {}): Cost {
  const one = lora.cost(shape, rank, { ...options, factors: {} });
  const build = one.rebuild.forward - size(shape);
  return costOf(shape, options, one.parameters + rank, 2 * one.bypass.forward, 2 * build);
}

/** What is trained and what it started from, as LoRAs with Λ in `up`. */
function both({ down, lambda, up, mask }: Factors, base: tf.Tensor, triplets?: Triplets) {
  const weighted = (up: tf.Tensor, lambda: tf.Tensor) => {
    const shared = mask ? tf.mul(lambda, tf.slice(mask, 0, lambda.size)) : lambda;
    return tf.mul(up, tf.expandDims(shared, 1));
  };
  const start = frozen(base, lambda.size, triplets);
  return {
    now: { down, up: weighted(up, lambda) },
    before: { down: start.down, up: weighted(start.up, start.lambda) },
  };
}

/** Numbers of P₀, Λ₀ and Q₀. */
interface Start {
  down: Float32Array;
  lambda: Float32Array;
  up: Float32Array;
}

/** The triplets of kernels decomposed before, by the data of the kernel, then by what was asked. */
const known: WeakMap<object, Map<string, Start>> = new WeakMap();

/** r triplets of a kernel: the first, the last, or those from (n − r)/2 on. */
function frozen(base: tf.Tensor, rank: number, triplets: Triplets = "principal"): Factors {
  const O = outputs(base.shape), asked = `${rank} ${triplets}`;
  const found = known.get(base.dataId) ?? new Map<string, Start>();
  const { down, lambda, up } = found.get(asked) ?? decomposed(base, rank, triplets);
  known.set(base.dataId, found.set(asked, { down, lambda, up }));
  const count = lambda.length;
  return {
    down: tf.tensor(down, [...base.shape.slice(0, -1), count]),
    lambda: tf.tensor(lambda),
    up: tf.tensor(up, [count, O]),
  };
}

function decomposed(base: tf.Tensor, rank: number, triplets: Triplets): Start {
  const O = outputs(base.shape), rows = size(base.shape) / O;
  const { u, s, v } = svd(matrix(rows, O, base.dataSync()));
  const from = { principal: 0, middle: (s.length - rank) >> 1, last: s.length - rank };
  const first = Math.max(0, from[triplets]), count = Math.min(rank, s.length);
  const columns = (data: Float64Array, length: number) =>
    Float32Array.from(
      { length: length * count },
      (_, i) => data[Math.floor(i / count) * s.length + first + (i % count)],
    );
  const right = columns(v.data, O); // [O, r]
  return {
    down: columns(u.data, rows),
    lambda: Float32Array.from(s.subarray(first, first + count)),
    up: right.map((_, i) => right[(i % O) * count + Math.floor(i / O)]),
  };
}

/**
 * How many ranks take part at a time step t of T: ⌊((T − t)/T)^sharpness · (r − least)⌋ + least.
 *
 * The noisier the step, the fewer: noisy steps are where one image is overfitted (LyCORIS,
 * `compute_timestep_mask`). Set it as `active` for the pass.
 *
 * @param t from 0, all ranks, to T, the least
 */
export function ranksAt(
  t: number,
  T: number,
  rank: number,
  { least = 1, sharpness = 1 }: { least?: number; sharpness?: number } = {},
): number {
  return Math.min(rank, Math.floor(((T - t) / T) ** sharpness * (rank - least)) + least);
}
