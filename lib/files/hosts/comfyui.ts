/**
 * ComfyUI (2025), `comfy/lora.py` and `comfy/weight_adapter/`.
 *
 * Keys that it does not look for are told in its log and left aside. Of PEFT and diffusers it reads the factors, and no
 * configuration: alpha is a key, or the rank.
 */
import * as tf from "@tensorflow/tfjs";
import type { Part } from "../adapter_modules.ts";
import type { Torch } from "../layout.ts";
import {
  butterfly,
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
import { type Change, has, type Host, numberOf, refuse, scaleAsTold, type Sight } from "./host.ts";

/** What it adds to a length before it divides by it. */
const EPSILON = 2 ** -23;

/** alpha / rank where there is an alpha, of 0 too; s · scale · ΔW, or with `dora_scale` s times the difference. */
function applied(
  torch: Torch,
  rank: number | undefined,
  delta: (W: tf.Tensor) => tf.Tensor,
): Change {
  const { dora_scale } = torch, scale = scaleAsTold(torch, rank);
  return (W, strength) => {
    const added = tf.mul(like(delta(W), W), scale);
    if (!dora_scale) return tf.mul(added, strength);
    const V = tf.add(W, added), byOutput = dora_scale.shape[0] === W.shape[0];
    // by output the lengths are those of the base, without the difference
    const norm = byOutput ? lengths(W, "output") : lengths(V, "input");
    const given = tf.mul(V, tf.div(dora_scale, tf.add(norm, EPSILON)));
    return tf.mul(tf.sub(given, W), strength);
  };
}

const RULES: [suffixes: string[], read: (torch: Torch) => Change][] = [
  [
    ["lora_up.weight"],
    (torch) => applied(torch, torch["lora_down.weight"].shape[0], () => lora(torch)),
  ],
  [["hada_w1_a"], (torch) => {
    if (torch.hada_t1 && torch.hada_t1.rank !== 4) refuse("its cores are of 2-D convolutions only");
    return applied(torch, torch.hada_w1_b.shape[0], () => loha(torch));
  }],
  ...["lokr_w1", "lokr_w1_a"].map((
    suffix,
  ): [string[], (torch: Torch) => Change] => [[suffix], (torch) => {
    const { lokr_w2, lokr_t2 } = torch, axes = (lokr_t2 ?? lokr_w2)?.rank ?? 2;
    if (axes !== 2 && axes !== 4) {
      refuse("it multiplies the wrong axes of a convolution that is not 2-D");
    }
    return applied(torch, lokrRank(torch), () => lokr(torch));
  }]),
  [["a1.weight"], glora],
  [["oft_blocks"], (torch) => {
    const { oft_blocks: blocks, alpha, rescale } = torch;
    if (!alpha) refuse("it needs an alpha, the constraint");
    // ‖Q‖ is compared with alpha itself, not with alpha · O
    const limit = numberOf(alpha), length = turning(blocks) + 1e-8;
    const share = limit > 0 && length > limit ? limit / length : 1;
    return (W, strength) => {
      const R = rotations(blocks, share), I = tf.eye(R.shape.at(-1)!);
      if (blocks.rank === 3) {
        // strength is in R − I, and again on the difference; rescale is not used
        const turning = tf.mul(tf.sub(R, I), strength);
        return tf.mul(turned(W, turning), strength);
      }
      const all = butterfly(W, tf.add(tf.mul(R, strength), tf.mul(I, 1 - strength)));
      return tf.mul(tf.sub(rescale ? tf.mul(all, rescale) : all, W), strength);
    };
  }],
  [["w_norm"], ({ w_norm }) => (W, strength) => tf.mul(like(w_norm, W), strength)],
  [["diff"], ({ diff }) => (W, strength) => tf.mul(like(diff, W), strength)],
];

/** Both orders of the factors; which one, their shapes and the kernel's tell. */
function glora(torch: Torch): Change {
  const [a1, a2, b1, b2] = ["a1", "a2", "b1", "b2"].map((name) => torch[`${name}.weight`]);
  const alike = (...lengths: (number | undefined)[]) => lengths.every((n) => n === lengths[0]);
  const older = alike(b2.shape[1], b1.shape[0], a1.shape[0], a2.shape[1]);
  const newer = alike(b2.shape[0], b1.shape[1], a1.shape[1], a2.shape[0]);
  return (W, strength) => {
    const square = a2.shape[0] === W.shape[0] && W.shape[0] === W.shape[1];
    const old = older && (!newer || square), rank = old ? a1.shape[0] : a2.shape[0];
    const change = applied(torch, rank, () => {
      if (!old) return tf.add(onInputs(onInputs(W, a1), a2), like(product(b1, b2), W));
      return tf.add(product(b2, b1), product(product(W, a2), a1));
    });
    return change(W, strength);
  };
}

/** Beginnings of names that its table of a model's keys has. */
const KNOWN =
  /^(lora_(unet|te\d?|prior_unet|prior_te|transformer)_|lycoris_|diffusion_model\.|unet\.|transformer\.|text_encoders?(_2)?\.|(down|mid|up)_blocks?\.)/;

/** Throws unless its table has a module of the name that these keys begin with. */
function checkKeys(parts: readonly Part[], { names }: Sight): void {
  const [{ key }] = parts;
  if (key.startsWith("base_model.model.")) refuse("it looks for no key that begins as PEFT's");
  if (names && !KNOWN.test(key)) refuse("it looks for names of the networks that it knows");
  const dotted = /^(unet\.|(down|mid|up)_blocks?\.)/.test(key);
  if (dotted && /\.to_(q|k|v|out)\b|\.to_out\.0/.test(key) && !key.includes(".processor.")) {
    refuse("it knows attention's layers as ….processor.to_q, and not by their paths");
  }
}

export const comfyui: Host = {
  title: "ComfyUI (2025)",
  dialect: "kohya",
  open: ({ dialect }, sight) => {
    if (dialect === "cloneofsimo") refuse("it looks for modules by name, not by position");
    return ({ parts, torch: all }) => {
      checkKeys(parts, sight);
      const unread = parts.filter(({ key }) => key.includes("lora_magnitude_vector"));
      const torch = Object.fromEntries(
        Object.entries(all).filter(([suffix]) => !unread.some((part) => part.suffix === suffix)),
      );
      const rule = RULES.find(([suffixes]) => has(torch, ...suffixes));
      if (!rule) refuse("it has no adapter of these keys, and leaves them aside");
      return rule[1](torch);
    };
  },
};
