/**
 * The dialect of PEFT: `base_model.model.<module>.<suffix>`, and `adapter_config.json` beside it.
 *
 * | | scale | axes |
 * | --- | --- | --- |
 * | LORA | alpha / r, alpha / √r with `use_rslora`; both by pattern | `lora_A` `[r, I, …k]`, `lora_B` `[O, r, 1…]` |
 * | … `use_dora` | | magnitude by output: `[O]`, of a convolution `[1, O, 1…]` |
 * | LOHA | alpha / r | as LyCORIS |
 * | LOKR | alpha / r, both factors whole or not (LyCORIS: 1 if both are) | as LyCORIS |
 * | IA3 | none; l = 1 + v | output `[O, 1]`; input (`feedforward_modules`) `[1, I]`; of a convolution `[1, n, 1…]` |
 *
 * `fan_in_fan_out` says how a base lies, not how factors do: ΔW here is `[I, O]` either way. PEFT scales a layer's bias
 * with an (IA)^3 on the output, which LyCORIS and this library do not.
 *
 * In memory and in a single file the configuration is metadata under its file's name. Source: PEFT 0.21.2.
 */
import * as tf from "@tensorflow/tfjs";
import type { Adapter } from "../adapter/adapter.ts";
import { space } from "../tensor/shape.ts";
import { type Metadata, type Reading, refuse, type Stored, type Written } from "./dialect.ts";
import type { Torch } from "./kohya.ts";
import { checkLora, chosen, type Config, listed, parseConfig, scaling } from "./peft_config.ts";
import { FIELDS } from "./peft_fields.ts";

const NAME = "peft";
const PREFIX = "base_model.model.";

/** The configuration's file, and the metadata that holds its text. */
export const CONFIG = "adapter_config.json";

/** PEFT's suffixes, and kohya's for the same tensor; a trained bias is no tensor of an adapter here. */
const SUFFIXES: Record<string, string> = {
  "lora_A.weight": "lora_down.weight",
  "lora_B.weight": "lora_up.weight",
  "lora_B.bias": "lora_B.bias",
  lora_magnitude_vector: "dora_scale",
  "lora_magnitude_vector.weight": "dora_scale",
  ...Object.fromEntries(
    ["w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2"].map((name) => [`hada_${name}`, `hada_${name}`]),
  ),
  ...Object.fromEntries(
    ["w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2"].map((
      name,
    ) => [`lokr_${name}`, `lokr_${name}`]),
  ),
  ia3_l: "weight",
};

/** What each kind of configuration is called, and on how many dimensions of space PEFT has it. */
const KINDS: Record<string, { type: string; space: readonly number[] }> = {
  lora: { type: "LORA", space: [0, 1, 2, 3] },
  dylora: { type: "LORA", space: [0, 1, 2, 3] },
  loha: { type: "LOHA", space: [0, 1, 2] },
  lokr: { type: "LOKR", space: [0, 2] },
  ia3: { type: "IA3", space: [0, 2, 3] },
};

/** A file whose keys begin as PEFT's do; one that has a configuration beside it may do without. */
export function matches(keys: readonly string[]): boolean {
  return keys.some((key) => key.startsWith(PREFIX));
}

/** Needs the configuration among the metadata. */
export function read(metadata: Metadata): Reading {
  const text = metadata[CONFIG];
  if (text === undefined) {
    throw new SyntaxError(
      `Cannot read a file of PEFT as its scale is told by ${CONFIG}: current file has none beside it, ` +
        "pass { config }",
    );
  }
  const config = parseConfig(text), type = String(config.peft_type);
  const translate: Record<string, (module: string, torch: Torch) => Torch> = {
    LORA: lora(config),
    LOHA: lycoris(config),
    LOKR: lycoris(config),
    IA3: (module, torch) => ia3(torch, listed(config.feedforward_modules, module)),
  };
  if (type === "LORA") checkLora(config);
  const locate = (key: string) => {
    const path = key.slice(key.startsWith(PREFIX) ? PREFIX.length : 0)
      .replace(/\.default(?=(\.(weight|bias))?$)/, ""); // an adapter's name in a model's own state
    const suffix = Object.keys(SUFFIXES).find((suffix) => path.endsWith(`.${suffix}`));
    if (!suffix || !Object.hasOwn(translate, type)) return undefined;
    return { module: path.slice(0, -suffix.length - 1), suffix: SUFFIXES[suffix] };
  };
  return {
    locate,
    layer: told,
    implied: type === "IA3" ? ["on_input"] : [],
    translate: translate[type],
  };
}

function checkRank(known: number, found?: number): void {
  if (known !== found) {
    throw new RangeError(`current rank is ${found ?? "none"} where ${CONFIG} has ${known}`);
  }
}

/** LoRA with PEFT's scale as kohya's alpha, and its magnitude's axes as LyCORIS's. */
export function lora(config: Config): (path: string, torch: Torch) => Torch {
  const scaleOf = scaling({ ...config, peft_type: "LORA" });
  return (path, torch) => {
    const { rank, scale } = scaleOf(path), up = torch["lora_up.weight"];
    if (!up) {
      throw new RangeError(`current keys are ${Object.keys(torch)} where ${CONFIG} has LORA`);
    }
    checkRank(rank, torch["lora_down.weight"].shape[0]);
    if (Boolean(config.use_dora) !== "dora_scale" in torch) {
      throw new RangeError(
        `current use_dora is ${Boolean(config.use_dora)}, with${
          torch.dora_scale ? "" : "out"
        } a magnitude`,
      );
    }
    const ones = up.shape.slice(2).map(() => 1);
    return {
      ...torch,
      alpha: tf.scalar(scale * rank),
      ...(torch.dora_scale && {
        dora_scale: tf.reshape(torch.dora_scale, [up.shape[0], 1, ...ones]),
      }),
    };
  };
}

/** LoHa and LoKr lie as LyCORIS's; a LoKr of two whole factors, which has no scale there, takes it into one. */
function lycoris(config: Config): (path: string, torch: Torch) => Torch {
  const scaleOf = scaling(config);
  return (path, torch) => {
    const { rank, scale } = scaleOf(path), { lokr_w1, lokr_w2 } = torch;
    const ranked = torch.hada_w1_b ?? torch.lokr_w2_b ?? torch.lokr_w1_b;
    if (ranked) checkRank(rank, ranked.shape[0]);
    if (!(lokr_w1 && lokr_w2)) return { ...torch, alpha: tf.scalar(scale * rank) };
    if (lokr_w2.rank === 3) {
      throw new RangeError("PEFT multiplies the wrong axes of a convolution in one dimension");
    }
    return { ...torch, lokr_w1: tf.mul(lokr_w1, scale), alpha: tf.scalar(rank) };
  };
}

/** v = l − 1. */
function ia3({ weight }: Torch, onInput: boolean): Torch {
  if (weight.rank === 2 && weight.shape[onInput ? 0 : 1] !== 1) {
    const where = onInput ? "one" : "none";
    throw new RangeError(`current ia3_l is ${weight.shape} where ${where} of feedforward_modules`);
  }
  const v = tf.sub(weight, 1);
  return {
    weight: weight.rank === 2 ? tf.reshape(v, [-1]) : v,
    on_input: tf.scalar(onInput ? 1 : 0, "int32"),
  };
}

/** A module's path is its key. */
export function told(layer: string): string {
  return layer;
}

/** LoRA (with a magnitude by output), DyLoRA as one, LoHa, LoKr, (IA)^3. */
export function hold(layer: string, adapter: Adapter): Adapter {
  const { algorithm, dora, factors, shape } = adapter, kind = KINDS[algorithm];
  const check = (holds: unknown, rule: string, current: string) => {
    if (!holds) refuse(layer, NAME, rule, `${current}, save it as kohya`);
  };
  check(kind, `it holds ${Object.keys(KINDS).join(", ")}`, `algorithm is ${algorithm}`);
  check(!factors.core, "its LoRA has no core", "adapter has one");
  check(
    !dora || dora === "output" && algorithm === "lora",
    "only its LoRA has a magnitude, by output",
    `algorithm is ${algorithm} with dora by ${dora}`,
  );
  check(
    kind.space.includes(space(shape).length),
    `${algorithm} is on kernels with ${kind.space.join(" or ")} axes in space`,
    `kernel has ${space(shape).length}`,
  );
  const cored = factors.core1 ?? factors.core2;
  check(!cored || space(shape).length === 2, "only 2-D kernels have a core", `shape is ${shape}`);
  return adapter;
}

/** With the configuration among the metadata, which keeps what it says besides. */
export function write(modules: ReadonlyMap<string, Stored>, metadata: Metadata): Written {
  const { [CONFIG]: before, ...told } = metadata;
  const kinds = [...modules].map(([layer, { adapter }]) => {
    return [layer, KINDS[adapter.algorithm].type] as const;
  });
  const type = kinds[0]?.[1] ?? "LORA";
  const other = kinds.find(([, kind]) => kind !== type);
  if (other) {
    refuse(other[0], NAME, `a file is all ${type}`, `kind is ${other[1]}, save it by itself`);
  }
  const old = before === undefined ? {} : parseConfig(before);
  const config = {
    base_model_name_or_path: null,
    inference_mode: true,
    task_type: null,
    ...(old.peft_type === type ? old : {}),
    peft_type: type,
    ...FIELDS[type](modules),
    target_modules: chosen([...modules.keys()]),
  };
  const tensors = [...modules].flatMap(([layer, stored]) =>
    keyed(stored).map(([suffix, tensor]) =>
      [`${PREFIX}${layer}.${suffix}`, tensor] as Written["tensors"][number]
    )
  );
  return {
    tensors,
    metadata: { format: "pt", ...told, [CONFIG]: JSON.stringify(config, null, 2) + "\n" },
  };
}

/** A module's tensors by PEFT's suffixes; what the configuration tells is not among them. */
export function keyed({ adapter, torch }: Stored): [suffix: string, tensor: tf.Tensor][] {
  const { alpha: _, on_input, weight, dora_scale, ...factors } = torch;
  if (weight) {
    const l = tf.add(weight, 1), onInput = on_input.dataSync()[0] !== 0;
    const dense = onInput ? [1, weight.size] : [weight.size, 1];
    return [["ia3_l", weight.rank === 1 ? tf.reshape(l, dense) : l]];
  }
  const ones = space(adapter.shape).map(() => 1);
  const named = Object.entries(factors).map(([suffix, tensor]) =>
    [
      suffix.replace("lora_down", "lora_A").replace("lora_up", "lora_B"),
      tensor,
    ] as [string, tf.Tensor]
  );
  if (!dora_scale) return named;
  const shape = ones.length > 0 ? [1, dora_scale.size, ...ones] : [dora_scale.size];
  return [...named, ["lora_magnitude_vector", tf.reshape(dora_scale, shape)]];
}
