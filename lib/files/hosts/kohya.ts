/**
 * kohya's sd-scripts (2026-02): `networks/lora.py`, `create_network_from_weights` and `load_state_dict`; `networks/oft.py`
 * for modules called `oft_unet_…`.
 *
 * The loader is not strict: keys other than `lora_down`, `lora_up` and `alpha` are left aside without a word.
 */
import * as tf from "@tensorflow/tfjs";
import type { Torch } from "../layout.ts";
import { like, product, rotations, turned, turning } from "./formulas.ts";
import { type Change, checkName, has, type Host, numberOf, refuse } from "./host.ts";

function lora(torch: Torch): Change {
  const up = torch["lora_up.weight"], down = torch["lora_down.weight"], rank = down.shape[0];
  const scale = (torch.alpha ? numberOf(torch.alpha) || rank : rank) / rank;
  return (W, strength) => {
    if (![2, 4].includes(W.rank)) refuse("it has linear layers and 2-D convolutions only");
    const fits = up.rank === W.rank && down.rank === W.rank &&
      down.shape.slice(2).every((length, axis) => length === W.shape[axis + 2]);
    if (!fits) refuse("its lora_up and lora_down are of other shapes: size mismatch");
    return tf.mul(like(product(up, down), W), scale * strength);
  };
}

/** R_s = s (R − I) + I with ‖Q‖ clamped to alpha · O, of alpha 0 to nothing. */
function oft({ oft_blocks: blocks, alpha }: Torch): Change {
  if (!alpha) refuse("it needs an alpha, the constraint");
  return (W, strength) => {
    const length = turning(blocks), limit = numberOf(alpha) * W.shape[0];
    const R = rotations(blocks, (Math.min(length, limit) + 1e-8) / (length + 1e-8));
    return tf.mul(tf.sub(turned(W, R), W), strength);
  };
}

export const kohya: Host = {
  title: "kohya-ss sd-scripts (2026-02)",
  dialect: "kohya",
  open: ({ dialect }, sight) => {
    if (dialect !== "kohya") refuse("it looks for keys of its own, as lora_up.weight");
    return ({ module, torch }) => {
      checkName(module, sight);
      if (module.startsWith("oft_unet_") && torch.oft_blocks?.rank === 3) return oft(torch);
      if (!has(torch, "lora_down.weight", "lora_up.weight")) {
        refuse("it reads lora_down, lora_up and alpha, and leaves other keys aside without a word");
      }
      return lora(torch);
    };
  },
};
