/**
 * AUTOMATIC1111's webui 1.8 to 1.10, `extensions-builtin/Lora`; where they differ, the older: what is right there is
 * right in all.
 *
 * What fails in a layer is counted and passed over; keys of no kind that it knows make the whole file fail. An OFT of
 * constraint 0, LyCORIS's default, has its Q clamped to 0, which the `network_oft.py` of 1.10 does not do; that one
 * reads a BOFT by its new key too, at strength 1.
 */
import * as tf from "@tensorflow/tfjs";
import type { Torch } from "../layout.ts";
import {
  column,
  lengths,
  like,
  loha,
  lokr,
  lokrRank,
  lora,
  product,
  rotations,
  turned,
  turning,
} from "./formulas.ts";
import { type Change, checkName, type Host, numberOf, refuse, scaleAsTold } from "./host.ts";

/** alpha / rank where both are known, of 0 too; `dora_scale` over the lengths by input, whichever it is; s times all. */
function finalized(
  torch: Torch,
  rank: number | undefined,
  updown: (W: tf.Tensor) => tf.Tensor,
): Change {
  const { dora_scale } = torch, scale = scaleAsTold(torch, rank);
  return (W, strength) => {
    if (![1, 2, 4].includes(W.rank)) refuse("it has linear layers and 2-D convolutions only");
    const added = tf.mul(like(updown(W), W), scale);
    if (!dora_scale) return tf.mul(added, strength);
    const V = tf.add(W, added), given = tf.mul(V, tf.div(dora_scale, lengths(V, "input")));
    return tf.mul(tf.sub(given, W), strength);
  };
}

/** In the order in which it looks for a kind. */
const RULES: [suffixes: string[][], read: (torch: Torch) => Change][] = [
  [
    [["lora_up.weight", "lora_down.weight"]],
    (torch) => finalized(torch, torch["lora_down.weight"].shape[0], () => lora(torch)),
  ],
  [
    [["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"]],
    (torch) => finalized(torch, torch.hada_w1_b.shape[0], () => loha(torch)),
  ],
  [[["weight"]], (torch) => {
    const { weight: w, on_input } = torch, onInput = numberOf(on_input) !== 0;
    return finalized(torch, undefined, (W) => {
      // a convolution's [1, n, 1, 1] becomes a column of two axes, which meets the kernel's last two
      if (!onInput && W.rank > 2 && W.shape[2] !== w.size) {
        refuse("it fails on convolutions, and passes the layer over");
      }
      return tf.mul(W, onInput ? w : tf.reshape(w, [-1, 1]));
    });
  }],
  [
    [
      ["lokr_w1", "lokr_w2"],
      ["lokr_w1", "lokr_w2_a", "lokr_w2_b"],
      ["lokr_w1_a", "lokr_w1_b", "lokr_w2"],
      ["lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"],
    ],
    (torch) => finalized(torch, lokrRank(torch), () => lokr(torch)),
  ],
  [[["diff"]], (torch) => finalized(torch, undefined, () => torch.diff)],
  [[["w_norm", "b_norm"]], (torch) => finalized(torch, undefined, () => torch.w_norm)],
  [[["a1.weight", "a2.weight", "alpha", "b1.weight", "b2.weight"]], (torch) => {
    const [a1, a2, b1, b2] = ["a1", "a2", "b1", "b2"].map((name) => torch[`${name}.weight`]);
    return finalized(torch, undefined, (W) => {
      const old = W.rank === 2 && a2.shape[0] === W.shape[1] && b2.shape[0] === W.shape[0] &&
        b2.shape[1] === b1.shape[0];
      if (!old || a1.rank > 2) {
        refuse(
          "it has the order of factors from before LyCORIS 3.0 and linear layers only, and passes the layer over",
        );
      }
      return tf.add(product(b2, b1), product(product(W, a2), a1));
    });
  }],
  [[["oft_blocks"]], ({ oft_blocks: blocks, alpha, rescale }) => {
    if (blocks.rank === 4) {
      refuse("it knows a BOFT by the key oft_diag only, from before LyCORIS 3.0");
    }
    if (!alpha) refuse("it needs an alpha, the constraint");
    return finalized({}, undefined, (W) => {
      const length = turning(blocks), limit = numberOf(alpha) * W.shape[0];
      const R = rotations(blocks, (Math.min(length, limit) + 1e-8) / (length + 1e-8));
      const all = turned(W, R);
      return tf.sub(rescale ? tf.mul(column(rescale, W), all) : all, W);
    });
  }],
];

const ruleOf = (suffixes: readonly string[]) =>
  RULES.find(([kinds]) => kinds.some((kind) => kind.every((suffix) => suffixes.includes(suffix))));

export const automatic1111: Host = {
  title: "AUTOMATIC1111 1.8 to 1.10",
  dialect: "kohya",
  open: ({ dialect, modules }, sight) => {
    if (dialect !== "kohya") refuse("it finds no module under keys of this dialect");
    for (const [module, parts] of modules) {
      if (ruleOf(parts.map(({ suffix }) => suffix))) continue;
      const keys = parts.map(({ suffix }) => suffix).join(", ");
      refuse(`it has no kind of module for ${keys} ("${module}"), and gives the file up`);
    }
    return ({ module, torch }) => {
      checkName(module, sight);
      return ruleOf(Object.keys(torch))![1](torch);
    };
  },
};
