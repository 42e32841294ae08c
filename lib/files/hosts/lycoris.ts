/**
 * LyCORIS 4.1.3: `create_lycoris_from_weights` and `merge_to`, which `tools/merge.py` uses too.
 *
 * Its training forward is what this library follows; what its merge makes of a file is another matter: LoHa and LoKr
 * are multiplied by their scale twice, and not every file that it writes it can build again.
 */
import * as tf from "@tensorflow/tfjs";
import { factorPair, powerOfTwoPair } from "../../tensor/kronecker.ts";
import { matrix } from "../../tensor/matrix.ts";
import { svd } from "../../tensor/svd.ts";
import type { Torch } from "../layout.ts";
import {
  butterfly,
  column,
  lengths,
  like,
  loha,
  lokr,
  lokrRank,
  lora,
  onInputs,
  product,
  rotations,
  turned,
  turning,
} from "./formulas.ts";
import { type Change, checkName, has, type Host, numberOf, refuse } from "./host.ts";
import { checkLokr } from "./lycoris_lokr.ts";

/** What LyCORIS adds to a length before it divides by it. */
const EPSILON = 2 ** -23;

/** `alpha / rank`, of 0 1; without alpha `float(None)` raises. */
function scaleOf({ alpha }: Torch, rank: number): number {
  if (!alpha) refuse("it needs an alpha: float(None) raises");
  return (numberOf(alpha) || rank) / rank;
}

/** V given its lengths at a strength, or without `dora_scale` the sum. */
function applied({ dora_scale }: Torch, delta: (W: tf.Tensor) => tf.Tensor): Change {
  return (W, strength) => {
    const added = delta(W);
    if (!dora_scale) return tf.mul(added, strength);
    if (dora_scale.shape[0] !== W.shape[0] || dora_scale.size !== W.shape[0]) {
      refuse("it builds every dora_scale by output, which this one is not");
    }
    const V = tf.add(W, added);
    const ratio = tf.div(column(dora_scale, W), tf.add(lengths(V, "output"), EPSILON));
    return tf.sub(tf.mul(V, tf.add(tf.mul(tf.sub(ratio, 1), strength), 1)), W);
  };
}

/** ΔW of a LoRA as T-LoRA is born: P₀ Λ₀ Q₀ of the r largest singular triplets. */
function principal(W: tf.Tensor, rank: number): tf.Tensor {
  const [O] = W.shape, { u, s, v } = svd(matrix(O, W.size / O, W.dataSync()), { rank });
  const up = tf.tensor2d(Float32Array.from(u.data), [u.rows, u.columns]);
  const down = tf.tensor2d(Float32Array.from(v.data), [v.rows, v.columns]);
  return tf.matMul(tf.mul(up, tf.tensor1d(Float32Array.from(s))), down, false, true);
}

/** In the order in which it looks for an algorithm. */
const RULES: [is: (torch: Torch) => boolean, read: (torch: Torch) => Change][] = [
  [(torch) => has(torch, "lora_up.weight"), (torch) => {
    const up = torch["lora_up.weight"], down = torch["lora_down.weight"];
    const scale = scaleOf(torch, down.shape[0]);
    if (up.rank !== down.rank) refuse("it copies lora_up into [O, r, 1, 1], which this one is not");
    return applied(torch, (W) => tf.mul(like(lora(torch), W), scale));
  }],
  [(torch) => has(torch, "hada_w1_a"), (torch) => {
    const scale = scaleOf(torch, torch.hada_w1_b.shape[0]);
    return applied(torch, (W) => tf.mul(like(loha(torch), W), scale * scale));
  }],
  [(torch) => has(torch, "on_input"), () => refuse("it raises a TypeError on every (IA)^3 file")],
  [(torch) => has(torch, "lokr_w1") || has(torch, "lokr_w1_a"), (torch) => {
    const rank = lokrRank(torch), scale = rank === undefined ? 1 : scaleOf(torch, rank);
    return applied(torch, (W) => {
      checkLokr(torch, W.shape);
      return tf.mul(like(lokr(torch), W), scale * scale);
    });
  }],
  [(torch) => has(torch, "diff"), ({ diff }) => (W, strength) => tf.mul(like(diff, W), strength)],
  [
    (torch) => has(torch, "w_norm"),
    ({ w_norm }) => (W, strength) => tf.mul(like(w_norm, W), strength),
  ],
  [(torch) => torch.oft_blocks?.rank === 3, rotation],
  [(torch) => torch.oft_blocks?.rank === 4, rotation],
  [(torch) => has(torch, "a1.weight"), (torch) => {
    const [a1, a2, b1, b2] = ["a1", "a2", "b1", "b2"].map((name) => torch[`${name}.weight`]);
    const rank = a2.shape[0], scale = scaleOf(torch, rank);
    return (W, strength) => {
      if (a1.shape[0] !== W.shape[1] || a1.shape[1] !== rank) {
        refuse("it builds the factors as since 3.0: the older order of a1 and a2 does not fit");
      }
      const mixed = onInputs(onInputs(W, a1), a2);
      return tf.mul(tf.add(mixed, like(product(b1, b2), W)), scale * strength);
    };
  }],
  [(torch) => has(torch, "lambda_layer"), (torch) => {
    const q = torch["q_layer.weight"], p = torch["p_layer.weight"], rank = q.shape[0];
    const scale = scaleOf(torch, rank);
    return (W, strength) => {
      if (W.shape.slice(2).some((k) => k !== 1)) refuse("it raises on kernels wider than a point");
      const up = tf.mul(tf.reshape(p, [-1, rank]), tf.reshape(torch.lambda_layer, [1, rank]));
      const now = product(up, q), before = principal(W, rank);
      return tf.mul(like(tf.sub(now, before), W), scale * strength);
    };
  }],
];

/** Diag-OFT turns rows by Rᵀ, BOFT by R; R is interpolated, `rescale` is not. */
function rotation({ oft_blocks: blocks, rescale, alpha }: Torch): Change {
  if (!alpha) refuse("it needs an alpha: float(None) raises");
  const [n, b] = blocks.shape.slice(-3), O = n * b;
  const [size] = blocks.rank === 3 ? factorPair(O, b) : powerOfTwoPair(O, b);
  if (size !== b) refuse(`it splits ${O} outputs into blocks of ${size}, which these are not`);
  const limit = numberOf(alpha) * O;
  return (W, strength) => {
    const length = turning(blocks) + 1e-8;
    const R = rotations(blocks, limit > 0 && length > limit ? limit / length : 1);
    const between = tf.add(tf.mul(R, strength), tf.mul(tf.eye(b), 1 - strength));
    const all = blocks.rank === 3 ? turned(W, between) : butterfly(W, between);
    return tf.sub(rescale ? tf.mul(column(rescale, W), all) : all, W);
  };
}

export const lycoris: Host = {
  title: "LyCORIS 4.1.3, merged",
  dialect: "kohya",
  open: ({ dialect }, sight) => {
    if (dialect !== "kohya") refuse("it looks for keys of its own, as lora_up.weight");
    return ({ module, torch }) => {
      checkName(module, sight, /^lycoris_/);
      const rule = RULES.find(([is]) => is(torch));
      if (!rule) refuse("it knows none of these keys");
      return rule[1](torch);
    };
  },
};
