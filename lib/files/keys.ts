/**
 * Which keys an algorithm's factors have in a file of kohya's or LyCORIS's, and how each is laid out there.
 *
 * One row an algorithm; `kohya.ts` puts alpha, scalar and magnitude beside them. Names, layouts and rules are those of
 * LyCORIS 4.1.3 and of kohya's sd-scripts.
 */
import * as tf from "@tensorflow/tfjs";
import type { Factors } from "../algorithms/algorithm.ts";
import type { AlgorithmName } from "../algorithms/table.ts";
import { delta, type Factors as LoraFactors } from "../algorithms/lora.ts";
import { inputs, outputs, type Shape, space } from "../tensor/shape.ts";
import { flat, flip, matrix, pointwise, type Torch, unflip } from "./layout.ts";
import { residualOf, SUFFIXES as RESIDUAL } from "./residual.ts";

/** An algorithm's keys: what must be there, what may be, and both directions. */
export interface Keys {
  /** alternatives, each a list of suffixes that belong together */
  required: readonly (readonly string[])[];
  optional: readonly string[];
  /** whether these keys are this algorithm's, where several have them */
  is?(torch: Torch): boolean;
  read(torch: Torch): { factors: Factors; shape: number[]; rank: number };
  write(factors: Torch, shape: Shape): Torch;
}

const lora: Keys = {
  required: [["lora_down.weight", "lora_up.weight"]],
  optional: ["lora_mid.weight", "alpha", "dora_scale"],
  read: (torch) => {
    const up = matrix(torch["lora_up.weight"]), mid = torch["lora_mid.weight"];
    const down = (mid ? matrix : flip)(torch["lora_down.weight"]);
    const core = mid && flip(mid);
    const k = space((core ?? down).shape);
    return {
      factors: core ? { down, core, up } : { down, up },
      shape: [...k, inputs(down.shape), outputs(up.shape)],
      rank: outputs(down.shape),
    };
  },
  write: ({ down, core, up }, shape) => {
    const k = space(shape);
    return {
      "lora_up.weight": pointwise(up, k),
      "lora_down.weight": core ? pointwise(down, k) : unflip(down),
      ...(core && { "lora_mid.weight": unflip(core) }),
    };
  },
};

const loha: Keys = {
  required: [["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"]],
  optional: ["hada_t1", "hada_t2", "alpha", "dora_scale"],
  read: ({ hada_w1_a, hada_w1_b, hada_w2_a, hada_w2_b, hada_t1, hada_t2 }) => {
    const cored = hada_t1 !== undefined && hada_t2 !== undefined;
    const up = cored ? tf.clone : matrix;
    const down1 = matrix(hada_w1_b), up1 = up(hada_w1_a);
    const core1 = cored ? flip(hada_t1) : undefined, core2 = cored ? flip(hada_t2) : undefined;
    return {
      factors: { down1, up1, core1, down2: matrix(hada_w2_b), up2: up(hada_w2_a), core2 },
      shape: [...space(core1?.shape ?? []), inputs(down1.shape), outputs(up1.shape)],
      rank: outputs(down1.shape),
    };
  },
  write: ({ down1, up1, core1, down2, up2, core2 }) => {
    const up = core1 ? tf.clone : unflip;
    return {
      hada_w1_a: up(up1),
      hada_w1_b: flat(down1),
      hada_w2_a: up(up2),
      hada_w2_b: flat(down2),
      ...(core1 && core2 && { hada_t1: unflip(core1), hada_t2: unflip(core2) }),
    };
  },
};

const lokr: Keys = {
  required: [
    ["lokr_w1", "lokr_w2"],
    ["lokr_w1", "lokr_w2_a", "lokr_w2_b"],
    ["lokr_w1_a", "lokr_w1_b", "lokr_w2"],
    ["lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"],
  ],
  optional: ["lokr_t2", "alpha", "dora_scale"],
  read: ({ lokr_w1, lokr_w1_a, lokr_w1_b, lokr_w2, lokr_w2_a, lokr_w2_b, lokr_t2, alpha }) => {
    const one: Torch = lokr_w1
      ? { w1: matrix(lokr_w1) }
      : { down1: matrix(lokr_w1_b), up1: matrix(lokr_w1_a) };
    const up2 = lokr_t2 ? tf.clone : matrix;
    const two: Torch = lokr_w2
      ? { w2: flip(lokr_w2) }
      : { down2: matrix(lokr_w2_b), up2: up2(lokr_w2_a), ...(lokr_t2 && { core2: flip(lokr_t2) }) };
    const { core2, down2, w2 } = two;
    const k = space((core2 ?? w2 ?? down2).shape);
    const inner = (w2 ?? down2).shape, ranked = core2 ?? down2 ?? one.down1;
    return {
      factors: { ...one, ...two },
      shape: [
        ...k,
        inputs((one.w1 ?? one.down1).shape) * inputs(inner),
        outputs((one.w1 ?? one.up1).shape) * outputs((w2 ?? two.up2).shape),
      ],
      // both parts whole: LyCORIS stores the rank that was asked for as alpha
      rank: ranked ? outputs(ranked.shape) : wholeRank(alpha),
    };
  },
  write: ({ w1, down1, up1, w2, down2, up2, core2 }) => ({
    ...(w1 ? { lokr_w1: unflip(w1) } : { lokr_w1_a: unflip(up1), lokr_w1_b: unflip(down1) }),
    ...(w2 ? { lokr_w2: unflip(w2) } : {
      lokr_w2_a: core2 ? tf.clone(up2) : unflip(up2),
      lokr_w2_b: flat(down2),
      ...(core2 && { lokr_t2: unflip(core2) }),
    }),
  }),
};

function wholeRank(alpha?: tf.Tensor): number {
  const [rank] = alpha ? alpha.dataSync() : [1];
  return Number.isInteger(rank) && rank >= 1 ? rank : 1;
}

const ia3: Keys = {
  required: [["weight", "on_input"]],
  optional: [],
  read: ({ weight, on_input }) => {
    const { size: n, rank } = weight, onInput = on_input.dataSync()[0] !== 0;
    const k = Array(Math.max(0, rank - 2)).fill(-1);
    return {
      factors: { vector: tf.reshape(weight, onInput ? [n, 1] : [1, n]) },
      shape: [...k, ...(onInput ? [n, -1] : [-1, n])],
      rank: 0,
    };
  },
  write: ({ vector }, shape) => {
    const k = space(shape).map(() => 1), n = vector.size;
    return {
      weight: tf.reshape(vector, shape.length === 2 ? [n] : [1, n, ...k]),
      on_input: tf.scalar(n === outputs(shape) && vector.shape[0] === 1 ? 0 : 1, "int32"),
    };
  },
};

/** down · up · alpha / rank and the residual of an extraction, which no algorithm has beside its factors. */
function completed(torch: Torch): tf.Tensor {
  const { factors, shape, rank } = lora.read(torch), [alpha] = torch.alpha?.dataSync() ?? [rank];
  const low = tf.mul(delta(factors as LoraFactors), alpha / rank);
  return tf.add(low, residualOf(torch, shape));
}

const full: Keys = {
  required: [["diff"], [...lora.required[0], ...RESIDUAL]],
  optional: ["diff_b", "lora_mid.weight", "alpha"],
  read: ({ diff, diff_b, ...torch }) => {
    const difference = !diff ? completed(torch) : diff.rank === 1 ? tf.clone(diff) : flip(diff);
    return {
      factors: { difference, ...(diff_b && { bias: tf.clone(diff_b) }) },
      shape: difference.shape,
      rank: 0,
    };
  },
  write: ({ difference, bias }) => ({
    diff: difference.rank === 1 ? tf.clone(difference) : unflip(difference),
    ...(bias && { diff_b: tf.clone(bias) }),
  }),
};

const norm: Keys = {
  required: [["w_norm"]],
  optional: ["b_norm"],
  read: ({ w_norm, b_norm }) => ({
    factors: { difference: tf.clone(w_norm), ...(b_norm && { bias: tf.clone(b_norm) }) },
    shape: w_norm.shape,
    rank: 0,
  }),
  write: ({ difference, bias }) => ({
    w_norm: tf.clone(difference),
    ...(bias && { b_norm: tf.clone(bias) }),
  }),
};

/** OFT and BOFT have the same keys, and as many axes as `blocks` has tell them apart. */
const rotation = (axes: number): Keys => ({
  required: [["oft_blocks"]],
  optional: ["rescale", "alpha"],
  is: ({ oft_blocks }) => oft_blocks.rank === axes,
  read: ({ oft_blocks, rescale }) => {
    const [n, b] = oft_blocks.shape.slice(-3);
    return {
      factors: {
        blocks: tf.clone(oft_blocks),
        ...(rescale && { rescale: tf.reshape(rescale, [n * b]) }),
      },
      shape: [...Array(Math.max(0, (rescale?.rank ?? 2) - 2)).fill(-1), -1, n * b],
      rank: b,
    };
  },
  write: ({ blocks, rescale }, shape) => ({
    oft_blocks: tf.clone(blocks),
    ...(rescale && { rescale: tf.reshape(rescale, [-1, 1, ...space(shape).map(() => 1)]) }),
  }),
});

/**
 * A = a1 · a2 and B = b1 · b2 in PyTorch's order; in LyCORIS before 3.0 they were a2 · a1 and b2 · b1.
 *
 * One of the two fits, unless the layer is square. Then the input's length, which is not below the rank, tells: it
 * comes first in a1, before 3.0 in a2.
 */
const glora: Keys = {
  required: [["a1.weight", "a2.weight", "b1.weight", "b2.weight"]],
  optional: ["alpha"],
  read: (torch) => {
    const [a1, a2, b1, b2] = ["a1", "a2", "b1", "b2"].map((name) => torch[`${name}.weight`]);
    const pairs = (a1: tf.Tensor, a2: tf.Tensor, b1: tf.Tensor, b2: tf.Tensor) =>
      a1.shape[1] === a2.shape[0] && b1.shape[1] === b2.shape[0] && a1.shape[1] === b1.shape[1];
    const wide = a1.shape[0] < a1.shape[1]!;
    const old = pairs(a2, a1, b2, b1) && (wide || !pairs(a1, a2, b1, b2));
    const [upA, downA, upB, downB] = old ? [a2, a1, b2, b1] : [a1, a2, b1, b2];
    const factors = {
      downA: matrix(downA),
      upA: matrix(upA),
      downB: flip(downB),
      upB: matrix(upB),
    };
    return {
      factors,
      shape: [...factors.downB.shape.slice(0, -1), outputs(factors.upB.shape)],
      rank: outputs(factors.downB.shape),
    };
  },
  write: ({ downA, upA, downB, upB }, shape) => {
    const k = space(shape);
    return {
      "a1.weight": pointwise(upA, k),
      "a2.weight": pointwise(downA, k),
      "b1.weight": pointwise(upB, k),
      "b2.weight": unflip(downB),
    };
  },
};

const tlora: Keys = {
  required: [["q_layer.weight", "p_layer.weight", "lambda_layer"]],
  optional: ["alpha"],
  read: (torch) => {
    const down = flip(torch["q_layer.weight"]), up = matrix(torch["p_layer.weight"]);
    return {
      factors: { down, lambda: tf.reshape(torch.lambda_layer, [-1]), up },
      shape: [...down.shape.slice(0, -1), outputs(up.shape)],
      rank: outputs(down.shape),
    };
  },
  write: ({ down, lambda, up }, shape) => ({
    "q_layer.weight": unflip(down),
    "p_layer.weight": pointwise(up, space(shape)),
    lambda_layer: tf.reshape(lambda, [1, -1]),
  }),
};

/** The keys of every algorithm; a DyLoRA is stored as a LoRA. */
export const KEYS: Record<Exclude<AlgorithmName, "dylora">, Keys> = {
  lora,
  loha,
  lokr,
  ia3,
  full,
  norm,
  oft: rotation(3),
  boft: rotation(4),
  glora,
  tlora,
};
