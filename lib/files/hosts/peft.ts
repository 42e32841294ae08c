/**
 * PEFT 0.21.2, `PeftModel.from_pretrained`: what `adapter_config.json` says of the factors beside it.
 *
 * A module that `target_modules` does not name is not built, and its tensors are left aside with a warning.
 */
import * as tf from "@tensorflow/tfjs";
import type { Torch } from "../layout.ts";
import { CONFIG } from "../peft.ts";
import { type Config, listed, parseConfig, scaling } from "../peft_config.ts";
import { column, lengths, like, loha, lokr, product } from "./formulas.ts";
import { type Change, has, type Host, refuse } from "./host.ts";

/** `m (W + ΔW) / ‖W + ΔW‖` by output, where there is a magnitude; what strength is at, it has no say in. */
export function changed(
  magnitude: tf.Tensor | undefined,
  delta: (W: tf.Tensor) => tf.Tensor,
): Change {
  return (W, strength) => {
    const added = tf.mul(like(delta(W), W), strength);
    if (!magnitude) return added;
    const V = tf.add(W, added);
    return tf.sub(tf.mul(V, tf.div(column(magnitude, W), lengths(V, "output"))), W);
  };
}

/** LoRA as PEFT builds it, of a rank and a scale. */
export function lora(torch: Torch, rank: number, scale: number): Change {
  const up = torch["lora_up.weight"], down = torch["lora_down.weight"];
  if (down.shape[0] !== rank) {
    refuse(`it builds rank ${rank}, and the factors have ${down.shape[0]}`);
  }
  if (up.rank !== down.rank) refuse("its lora_B has as many axes as the kernel: size mismatch");
  return changed(torch.dora_scale, () => tf.mul(product(up, down), scale));
}

const KINDS: Record<string, (torch: Torch, config: Config, module: string) => Change> = {
  LORA: (torch, config, module) => {
    const { rank, scale } = scaling(config)(module);
    if (has(torch, "dora_scale") !== Boolean(config.use_dora)) {
      refuse(`its use_dora is ${Boolean(config.use_dora)}`);
    }
    return lora(torch, rank, scale);
  },
  LOHA: (torch, config, module) => {
    const { scale } = scaling(config)(module);
    return changed(undefined, () => tf.mul(loha(torch), scale));
  },
  // alpha / r always, of two whole factors too
  LOKR: (torch, config, module) => {
    if (torch.lokr_w2?.rank === 3) {
      refuse("it multiplies the wrong axes of a convolution in one dimension");
    }
    const { scale } = scaling(config)(module);
    return changed(undefined, () => tf.mul(lokr(torch), scale));
  },
  // W · l: rows, or columns where feedforward_modules names the module
  IA3: ({ weight }, config, module) => (W, strength) => {
    const onInput = listed(config.feedforward_modules, module), length = W.shape[onInput ? 1 : 0];
    if (weight.size !== length) refuse(`its ia3_l has ${length} numbers: size mismatch`);
    const ones = W.shape.slice(2).map(() => 1);
    const l = tf.reshape(weight, onInput ? [1, -1, ...ones] : [-1, 1, ...ones]);
    return tf.mul(tf.mul(W, tf.sub(l, 1)), strength);
  },
};

/** Whether PEFT takes a module for one of `target_modules`. */
function targeted(names: unknown, module: string): boolean {
  if (!Array.isArray(names)) return listed(names, module);
  return names.some((name) => module === name || module.endsWith(`.${name}`));
}

export const peft: Host = {
  title: "PEFT 0.21.2",
  dialect: "peft",
  open: ({ dialect, metadata }) => {
    if (dialect !== "peft") {
      refuse("it reads adapter_model.safetensors beside adapter_config.json, its own keys");
    }
    const config = parseConfig(metadata[CONFIG]), kind = KINDS[String(config.peft_type)];
    if (!kind) refuse(`what it makes of ${config.peft_type} is not known here`);
    return ({ module, torch }) => {
      if (!targeted(config.target_modules, module)) refuse("its target_modules does not name it");
      return kind(torch, config, module);
    };
  },
};
