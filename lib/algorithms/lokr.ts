/**
 * LoKr: ΔW = w1 ⊗ w2, a Kronecker product of a small matrix and a small kernel, each of which may be low rank.
 *
 * Yeh et al., arXiv 2309.14859 (LyCORIS, `LokrModule`), after Edalati et al., "KronA", arXiv 2212.10650.
 * With I = I_m·I_n and O = O_m·O_n, ΔW[·, b·I_n + d, a·O_n + c] = w1[b, a] · w2[·, d, c].
 */
import * as tf from "@tensorflow/tfjs";
import { apart, together } from "../tensor/apart.ts";
import { convolve } from "../tensor/convolve.ts";
import type { Geometry } from "../tensor/geometry.ts";
import { factorPair, kronecker } from "../tensor/kronecker.ts";
import { inputs, isWide, outputs, type Shape, size, space } from "../tensor/shape.ts";
import type { Cost, CostOptions, InitOptions } from "./algorithm.ts";
import { kaiming } from "./birth.ts";
import { costOf, positions } from "./count.ts";
import * as full from "./full.ts";
import * as lora from "./lora.ts";

/**
 * `w1` `[I_m, O_m]`, or `down1` `[I_m, r]` and `up1` `[r, O_m]`; `w2` `[...k, I_n, O_n]`, or LoRA's `down2 up2 core2`
 * of a kernel of that shape.
 */
export type Factors = {
  readonly w1?: tf.Tensor;
  readonly down1?: tf.Tensor;
  readonly up1?: tf.Tensor;
  readonly w2?: tf.Tensor;
  readonly down2?: tf.Tensor;
  readonly up2?: tf.Tensor;
  readonly core2?: tf.Tensor;
};

/** How a kernel is split, and which of the two parts are low rank. */
interface Plan {
  small: Shape;
  large: Shape;
  lowRank1: boolean;
  lowRank2: boolean;
  cored: boolean;
}

/** LyCORIS's rules. */
function plan(shape: Shape, rank: number, options: InitOptions): Plan {
  const { factor = -1, decomposeBoth = false, full = false, unbalanced = false, tucker } = options;
  const [im, ik] = factorPair(inputs(shape), factor), pair = factorPair(outputs(shape), factor);
  const [om, ok] = unbalanced ? [pair[1], pair[0]] : pair;
  const lowRank2 = !full && rank < Math.max(ok, ik) / 2;
  return {
    small: [im, om],
    large: [...space(shape), ik, ok],
    lowRank1: !full && decomposeBoth && rank < Math.max(om, im) / 2,
    lowRank2,
    cored: lowRank2 && tucker === true && isWide(shape),
  };
}

/** The plan that factors at hand follow. */
function planOf({ w1, down1, up1, down2, w2, core2 }: Factors, shape: Shape): Plan {
  const im = (w1 ?? down1!).shape[0], om = outputs((w1 ?? up1!).shape);
  return {
    small: [im, om],
    large: [...space(shape), inputs(shape) / im, outputs(shape) / om],
    lowRank1: !w1,
    lowRank2: !w2 && down2 !== undefined,
    cored: core2 !== undefined,
  };
}

/** The small matrix from U(−1/√fan, 1/√fan), the large kernel (or its `up2`'s partner `down2`) zero, so that ΔW = 0. */
export function init(shape: Shape, rank: number, options: InitOptions = {}): Factors {
  const { seed = 0, scalar = false } = options;
  const { small: [im, om], large, lowRank1, lowRank2, cored } = plan(shape, rank, options);
  const [ik, ok] = [inputs(large), outputs(large)], k = space(large), taps = size(k);
  const born = (shape: Shape, fan: number, name: string) =>
    scalar ? kaiming(shape, fan, seed, name) : tf.zeros([...shape]);
  const one = lowRank1
    ? { down1: kaiming([im, rank], im, seed, "down1"), up1: kaiming([rank, om], rank, seed, "up1") }
    : { w1: kaiming([im, om], im, seed, "w1") };
  if (!lowRank2) return { ...one, w2: born(large, ik * taps, "w2") };
  if (!cored) {
    return {
      ...one,
      down2: born([...k, ik, rank], ik * taps, "down2"),
      up2: kaiming([rank, ok], rank, seed, "up2"),
    };
  }
  return {
    ...one,
    down2: born([ik, rank], ik, "down2"),
    core2: kaiming([...k, rank, rank], rank * taps, seed, "core2"),
    up2: kaiming([rank, ok], ok, seed, "up2"),
  };
}

/** w1 as a matrix `[I_m, O_m]`. */
function small({ w1, down1, up1 }: Factors): tf.Tensor {
  return w1 ?? tf.matMul(down1!, up1!);
}

/** w2's low-rank pair, where it has one. */
function pair2({ down2, up2, core2 }: Factors): lora.Factors | undefined {
  return down2 && up2 && { down: down2, up: up2, core: core2 };
}

/** w2 as a kernel `[...k, I_n, O_n]`. */
function large(factors: Factors): tf.Tensor {
  return factors.w2 ?? lora.delta(pair2(factors)!);
}

/** w1 `[I_m, O_m]` and w2 `[...k, I_n, O_n]`, whole where they are stored low rank too. */
export function whole(factors: Factors): { w1: tf.Tensor; w2: tf.Tensor } {
  return { w1: small(factors), w2: large(factors) };
}

/** ΔW = w1 ⊗ w2. */
export function delta(factors: Factors): tf.Tensor {
  return tf.tidy(() => kronecker(small(factors), large(factors)));
}

/**
 * op(x; w1 ⊗ w2): y[a] = Σ_b w1[b, a] · op(x[b]; w2) over x's channels seen as `[I_m, I_n]`; W is never built.
 *
 * The small sum commutes with the convolution; whichever of the two is less work comes first. Under groups
 * (where LyCORIS has no bypass either) ΔW is built.
 */
export function bypass(factors: Factors, x: tf.Tensor, geometry: Geometry = {}): tf.Tensor {
  return tf.tidy(() => {
    if ((geometry.groups ?? 1) > 1) return convolve(x, delta(factors), geometry);
    const w1 = small(factors), [im, om] = w1.shape, [N, ...places] = x.shape.slice(0, -1);
    const ik = x.shape[x.rank - 1] / im;
    const parts = apart(x, im); // [I_m, N·HW, I_n]
    const mix = (h: tf.Tensor) => tf.matMul(w1, tf.reshape(h, [im, -1]), true); // [O_m, ...]
    const move = (h: tf.Tensor, runs: number) => {
      const inside = tf.reshape(h, [runs * N, ...places, ik]);
      const pair = pair2(factors);
      return pair ? lora.bypass(pair, inside, geometry) : convolve(inside, factors.w2!, geometry);
    };
    // the convolution runs once an I_m before the sum, once an O_m after it
    const moved = im <= om ? move(parts, im) : move(mix(parts), om);
    const out = moved.shape.slice(1, -1), ok = moved.shape[moved.rank - 1];
    const mixed = im <= om ? mix(moved) : moved;
    return together(tf.reshape(mixed, [om, -1, ok]), [N, ...out, om * ok]);
  });
}

/**
 * Parameters |w1| + |w2|; ΔW costs one multiplication an element once w1 and w2 are there.
 *
 * The hybrid route makes W′ twice a step; w2 runs over all blocks once for w1's gradient, and once for its own.
 */
export function cost(shape: Shape, rank: number, options: CostOptions = {}): Cost {
  const { small: [im, om], large, lowRank1, lowRank2, cored } = options.factors
    ? planOf(options.factors, shape)
    : plan(shape, rank, options);
  const inner = { ...options, factors: undefined, tucker: cored };
  const two = lowRank2 ? lora.cost(large, rank, inner) : undefined;
  const w1 = lowRank1 ? rank * (im + om) : im * om;
  const build1 = lowRank1 ? rank * im * om : 0;
  const build2 = two ? two.rebuild.forward - size(large) : 0;
  const convolution = two ? two.bypass.forward : size(large) * positions(options).output;
  const { output, input } = positions(options);
  const activation = im <= om
    ? im * convolution + im * om * outputs(large) * output
    : om * convolution + im * om * inputs(large) * input;
  const own = costOf(
    shape,
    options,
    w1 + (two?.parameters ?? size(large)),
    build1 + activation,
    build1 + build2 + size(shape),
  );
  const { forward } = own.rebuild, mixed = im * om * outputs(large) * output;
  const learnt = 2 * (im * size(large) * output + mixed) + 2 * (build1 + build2);
  return { ...own, hybrid: { forward, training: 2 * forward + learnt } };
}

/**
 * The factors as one LoRA of rank rank(w1) · rank(w2): (D1·U1) ⊗ (D2·U2) = (D1 ⊗ D2) · (U1 ⊗ U2).
 *
 * A part that is not stored low rank counts with the lesser of its sides.
 */
export function lowRank(factors: Factors): { down: tf.Tensor; up: tf.Tensor } {
  return tf.tidy(() => {
    const { down1, up1, w1, w2 } = factors;
    const one = w1 ? full.lowRank({ difference: w1 }) : { down: down1!, up: up1! };
    const two = w2 ? full.lowRank({ difference: w2 }) : lora.lowRank(pair2(factors)!);
    return { down: kronecker(one.down, two.down), up: kronecker(one.up, two.up) };
  });
}
