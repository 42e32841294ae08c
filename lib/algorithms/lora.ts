/**
 * LoRA: ΔW = down · up. On a kernel this is LoCon, with a Tucker core between if asked.
 *
 * Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685; for convolutions
 * Yeh et al., "Navigating Text-To-Image Customization", arXiv 2309.14859 (LyCORIS, `LoConModule`).
 */
import * as tf from "@tensorflow/tfjs";
import { apart, together } from "../tensor/apart.ts";
import { convolve } from "../tensor/convolve.ts";
import type { Geometry } from "../tensor/geometry.ts";
import { inputs, isWide, outputs, type Shape, size, space } from "../tensor/shape.ts";
import { tucker as product } from "../tensor/tucker.ts";
import type { Cost, CostOptions, InitOptions } from "./algorithm.ts";
import { kaiming } from "./birth.ts";
import { parent } from "./base.ts";
import { costOf, positions } from "./count.ts";
import { principal } from "./principal.ts";

/**
 * `down` `[...k, I/G, r]` and `up` `[r, O]`; with a core, `down` `[I/G, r]`, `core` `[...k, r, r]`, `up` `[r, O]`.
 *
 * `bornDown`, `bornUp`: what `down` and `up` were born as, where that was from the base. They are frozen, and
 * ΔW = down · up − bornDown · bornUp.
 */
export type Factors = {
  readonly down: tf.Tensor;
  readonly up: tf.Tensor;
  readonly core?: tf.Tensor;
  readonly bornDown?: tf.Tensor;
  readonly bornUp?: tf.Tensor;
};

/** What factors were born as, where that is to be taken off. */
function birthOf({ bornDown, bornUp }: Factors): Factors | undefined {
  return bornDown && bornUp && { down: bornDown, up: bornUp };
}

/**
 * `down` (and `core`) from U(−1/√fan, 1/√fan), `up` zero, so that ΔW = 0.
 *
 * `tucker` is ignored on pointwise kernels, as LyCORIS does. With `scalar`, `up` is random too.
 *
 * With `init` both are from the base, which stays as it is: PEFT takes what they were born as off the base (W − W₀,
 * and W₀ + ΔW is trained) and so has to know the factors to give the base back; here it is taken off ΔW, for
 * which the same gradients are the same steps, and W is W at every strength and in every file.
 *
 * @throws {TypeError} for `init` without its base, or with a core or a scalar
 * @throws {RangeError} for `init` of a rank above that of the kernel
 */
export function init(
  shape: Shape,
  rank: number,
  { seed = 0, tucker = false, scalar = false, init, base }: InitOptions = {},
): Factors {
  const I = inputs(shape), O = outputs(shape), k = space(shape);
  if (init) {
    if (scalar || (tucker && isWide(shape))) {
      throw new TypeError(
        `Cannot create lora by ${init} as it is down · up alone: current options ask for ` +
          (scalar ? "a scalar" : "a core"),
      );
    }
    const born = principal(parent(base, shape, rank, `lora by ${init}`), rank, init);
    const down = tf.tensor(Float32Array.from(born.down.data), [...k, I, rank]);
    const up = tf.tensor(Float32Array.from(born.up.data), [rank, O]);
    return { down, up, bornDown: tf.clone(down), bornUp: tf.clone(up) };
  }
  const up = scalar ? kaiming([rank, O], rank, seed, "up") : tf.zeros([rank, O]);
  if (!tucker || !isWide(shape)) {
    return { down: kaiming([...k, I, rank], I * size(k), seed, "down"), up };
  }
  return {
    down: kaiming([I, rank], I, seed, "down"),
    core: kaiming([...k, rank, rank], rank * size(k), seed, "core"),
    up,
  };
}

/** ΔW = down · up over the kernel as a matrix `[k·I/G, O]`; with a core Σ_ab core[·, a, b] down[i, a] up[b, o]. */
export function delta(factors: Factors): tf.Tensor {
  const { down, up, core } = factors, birth = birthOf(factors);
  if (birth) return tf.tidy(() => tf.sub(delta({ down, up }), delta(birth)));
  if (core) return product(core, down, up);
  return tf.tidy(() => {
    const [rank, O] = up.shape;
    const matrix = tf.matMul(tf.reshape(down, [-1, rank]), up as tf.Tensor2D);
    return tf.reshape(matrix, [...down.shape.slice(0, -1), O]);
  });
}

/** The gradients of the factors, from G, the gradient of ΔW. */
export function gradient({ down, up, core }: Factors, G: tf.Tensor): Factors {
  const [rank, O] = up.shape;
  const matrix = tf.reshape(G, [-1, O]); // [k·I, O]
  const P = tf.matMul(matrix, up, false, true); // [k·I, r]
  if (!core) {
    const columns = tf.reshape(down, [-1, rank]);
    return { down: tf.reshape(P, down.shape), up: tf.matMul(columns, matrix, true) };
  }
  const I = down.shape[0], taps = tf.reshape(core, [-1, rank, rank]), k = taps.shape[0];
  const p = tf.reshape(P, [k, I, rank]), d = tf.tile(tf.expandDims(down), [k, 1, 1]);
  return {
    down: tf.sum(tf.matMul(p, taps, false, true), 0),
    core: tf.reshape(tf.matMul(d, p, true), core.shape),
    up: tf.matMul(tf.reshape(tf.matMul(d, taps), [-1, rank]), matrix, true),
  };
}

/**
 * op(x; ΔW) = Conv(r, O, 1) ∘ Conv(I, r, k): two thin convolutions, ΔW is never built.
 *
 * Stride, padding and dilation belong to the convolution that has the kernel's space. Under groups all
 * groups share `down`, so they ride in the batch; `up` has a column block for each.
 */
export function bypass(factors: Factors, x: tf.Tensor, geometry: Geometry = {}): tf.Tensor {
  const { down, up, core } = factors, { groups = 1, ...own } = geometry;
  const birth = birthOf(factors);
  if (birth) {
    return tf.tidy(() => tf.sub(bypass({ down, up }, x, geometry), bypass(birth, x, geometry)));
  }
  const narrow = (x: tf.Tensor) =>
    core ? convolve(convolve(x, down), core, own) : convolve(x, down, own);
  return tf.tidy(() => {
    if (groups === 1) return convolve(narrow(x), up);
    const [rank, O] = up.shape, [N, ...places] = x.shape.slice(0, -1);
    const each = [groups * N, ...places, x.shape[x.rank - 1] / groups];
    const h = narrow(tf.reshape(apart(x, groups), each));
    const y = tf.matMul(tf.reshape(h, [groups, -1, rank]), apart(up, groups)); // [G, N·out, O/G]
    return together(y, [N, ...h.shape.slice(1, -1), O]);
  });
}

/**
 * Parameters r·(k·I/G + O); multiply-adds (O·r + r·I·k²)·h·w, as the LoCon README counts them.
 *
 * The hybrid route makes W′ twice a step, forward and for dx, and runs the factors forward once and back once: each but
 * a core has one gradient to compute, as the input's goes through W′.
 */
export function cost(shape: Shape, rank: number, options: CostOptions = {}): Cost {
  const I = inputs(shape), O = outputs(shape), k = size(space(shape));
  const { output, input } = positions(options), { factors, tucker = false } = options;
  if (factors ? factors.core : tucker && isWide(shape)) {
    const parameters = rank * (I + k * rank + O);
    const activation = rank * I * input + (rank * rank * k + rank * O) * output;
    const build = k * rank * I * Math.min(rank, O) + k * rank * I * O;
    const plain = costOf(shape, options, parameters, activation, build);
    const training = 2 * plain.rebuild.forward + 2 * activation + rank * rank * k * output;
    return { ...plain, hybrid: { forward: plain.rebuild.forward, training } };
  }
  const parameters = rank * (I * k + O), activation = parameters * output;
  const pairs = (factors ? factors.bornDown : options.init) ? 2 : 1;
  const build = pairs * k * I * rank * O;
  const plain = costOf(shape, options, parameters, pairs * activation, build);
  const { forward } = plain.rebuild;
  return { ...plain, hybrid: { forward, training: 2 * forward + 2 * activation } };
}

/** The factors as a plain pair of the same ΔW: without core, and of rank 2r where a birth is taken off. */
export function lowRank(factors: Factors): { down: tf.Tensor; up: tf.Tensor } {
  const { down, up, core } = factors, birth = birthOf(factors);
  if (birth) {
    return tf.tidy(() => ({
      down: tf.concat([down, birth.down], -1),
      up: tf.concat([up, tf.neg(birth.up)], 0),
    }));
  }
  if (!core) return { down: tf.clone(down), up: tf.clone(up) };
  return tf.tidy(() => {
    const [I, rank] = down.shape, taps = tf.reshape(core, [-1, rank, rank]);
    const wide = tf.matMul(tf.tile(tf.expandDims(down), [taps.shape[0], 1, 1]), taps);
    return { down: tf.reshape(wide, [...core.shape.slice(0, -2), I, rank]), up: tf.clone(up) };
  });
}
