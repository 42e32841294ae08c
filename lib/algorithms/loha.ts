/**
 * LoHa: ΔW = (down1 · up1) ⊙ (down2 · up2), of rank up to r².
 *
 * Hyeon-Woo et al., "FedPara: Low-Rank Hadamard Product for Communication-Efficient Federated Learning",
 * arXiv 2108.06098; with a Tucker core it is their Proposition 3 (LyCORIS, `LohaModule`).
 */
import * as tf from "@tensorflow/tfjs";
import { convolve } from "../tensor/convolve.ts";
import type { Geometry } from "../tensor/geometry.ts";
import { inputs, isWide, outputs, type Shape, size, space } from "../tensor/shape.ts";
import type { Cost, CostOptions, InitOptions } from "./algorithm.ts";
import { gaussian } from "./birth.ts";
import { costOf, positions } from "./count.ts";
import * as lora from "./lora.ts";

/** Two LoRAs: `down1 up1 core1` and `down2 up2 core2`, each of the shapes of LoRA's `down up core`. */
export type Factors = {
  readonly down1: tf.Tensor;
  readonly up1: tf.Tensor;
  readonly core1?: tf.Tensor;
  readonly down2: tf.Tensor;
  readonly up2: tf.Tensor;
  readonly core2?: tf.Tensor;
};

/** `up1`, cores from N(0.1), `down1`, `down2` from N(1), `up2` zero (N(0.1) with `scalar`), so that ΔW = 0. */
export function init(
  shape: Shape,
  rank: number,
  { seed = 0, tucker = false, scalar = false }: InitOptions = {},
): Factors {
  const I = inputs(shape), O = outputs(shape), k = space(shape);
  const cored = tucker && isWide(shape);
  const down = cored ? [I, rank] : [...k, I, rank];
  const halves = {
    down1: gaussian(down, 1, seed, "down1"),
    up1: gaussian([rank, O], 0.1, seed, "up1"),
    down2: gaussian(down, 1, seed, "down2"),
    up2: scalar ? gaussian([rank, O], 0.1, seed, "up2") : tf.zeros([rank, O]),
  };
  if (!cored) return halves;
  return {
    ...halves,
    core1: gaussian([...k, rank, rank], 0.1, seed, "core1"),
    core2: gaussian([...k, rank, rank], 0.1, seed, "core2"),
  };
}

const first = ({ down1, up1, core1 }: Factors): lora.Factors => ({
  down: down1,
  up: up1,
  core: core1,
});
const second = ({ down2, up2, core2 }: Factors): lora.Factors => ({
  down: down2,
  up: up2,
  core: core2,
});
const list = ({ down, up, core }: lora.Factors) => core ? [down, up, core] : [down, up];
const half = ([down, up, core]: tf.Tensor[]): lora.Factors => ({ down, up, core });

/**
 * ΔW = W1 ⊙ W2 with Wj = down_j · up_j.
 *
 * Its gradient keeps the factors and makes W1 and W2 again, where plain differentiation would hold both
 * from forward to backward: with G the gradient of ΔW, that of W1 is G ⊙ W2 and that of W2 is G ⊙ W1. A step
 * through eight kernels of 3×3×320×320 takes 70 MiB so, 178 MiB plainly (`bench/loha_memory.ts`).
 */
export function delta(factors: Factors): tf.Tensor {
  const tensors = [...list(first(factors)), ...list(second(factors))];
  const product = tf.customGrad((...args) => {
    const save = args.pop() as tf.GradSaveFunc;
    const split = (all: tf.Tensor[]) => [
      half(all.slice(0, all.length / 2)),
      half(all.slice(all.length / 2)),
    ];
    const [one, two] = split(args as tf.Tensor[]);
    save(args as tf.Tensor[]);
    return {
      value: tf.mul(lora.delta(one), lora.delta(two)),
      // in scopes of their own: TensorFlow.js opens none around a custom gradient
      gradFunc: (G: tf.Tensor, saved: tf.Tensor[]) => {
        const [one, two] = split(saved);
        const through = (half: lora.Factors, other: lora.Factors) =>
          tf.tidy(() => list(lora.gradient(half, tf.mul(G, lora.delta(other)))));
        return [...through(one, two), ...through(two, one)];
      },
    };
  });
  return tf.tidy(() => product(...tensors));
}

/**
 * op(x; ΔW): through the rank-r² pair of {@link lowRank} while that is less work than a kernel of full
 * rank, else through ΔW itself.
 */
export function bypass(factors: Factors, x: tf.Tensor, geometry: Geometry = {}): tf.Tensor {
  const [rank, O] = factors.up1.shape;
  const rows = size((factors.core1 ?? factors.down1).shape.slice(0, -2)) *
    factors.down1.shape[factors.down1.rank - 2];
  return tf.tidy(() =>
    rank * rank * (rows + O) < rows * O
      ? lora.bypass(lowRank(factors), x, geometry)
      : convolve(x, delta(factors), geometry)
  );
}

/** Parameters 2·r·(k·I/G + O); ΔW costs two products and one multiplication an element. */
export function cost(shape: Shape, rank: number, options: CostOptions = {}): Cost {
  const core = options.factors?.core1,
    halves = { ...options, factors: options.factors && { core } };
  const one = lora.cost(shape, rank, halves);
  const build = 2 * (one.rebuild.forward - size(shape)) + size(shape);
  const pair = lora.cost(shape, rank * rank, { ...options, factors: {} });
  const activation = Math.min(
    pair.bypass.forward,
    build + size(shape) * positions(options).output,
  );
  return costOf(shape, options, 2 * one.parameters, activation, build);
}

/**
 * The factors as one LoRA of rank r²: column (a, b) of `down` is down1[·, a] ⊙ down2[·, b], row (a, b) of `up`
 * is up1[a, ·] ⊙ up2[b, ·], since (Σ_a p_a q_aᵀ) ⊙ (Σ_b u_b v_bᵀ) = Σ_ab (p_a ⊙ u_b)(q_a ⊙ v_b)ᵀ.
 */
export function lowRank(factors: Factors): { down: tf.Tensor; up: tf.Tensor } {
  return tf.tidy(() => {
    const one = lora.lowRank(first(factors)), two = lora.lowRank(second(factors));
    const [rank, O] = one.up.shape, rows = one.down.shape.slice(0, -1);
    const down = tf.mul(tf.expandDims(one.down, -1), tf.expandDims(two.down, -2)); // [..., r, r]
    const up = tf.mul(tf.expandDims(one.up, 1), tf.expandDims(two.up, 0)); // [r, r, O]
    return {
      down: tf.reshape(down, [...rows, rank * rank]),
      up: tf.reshape(up, [rank * rank, O]),
    };
  });
}
