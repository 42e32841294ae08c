/**
 * The dialects of diffusers: a module's path, the network's name before it, and one of four generations of suffixes.
 *
 * | since | keys |
 * | --- | --- |
 * | PEFT (written here) | `unet.….to_q.lora_A.weight`, `.lora_B.weight`, `.lora_magnitude_vector` |
 * | before, and still by its training scripts | `unet.….to_q.lora.down.weight`, `text_encoder.….q_proj.lora_linear_layer.up.weight` |
 * | attention processors | `unet.….attn1.processor.to_q_lora.down.weight`, `text_encoder.….self_attn.to_out_lora.up.weight` |
 *
 * All may be mixed in one file; the network's name may be missing.
 *
 * | | |
 * | --- | --- |
 * | scale, read | a key `.alpha` over r; else metadata `lora_adapter_metadata`, a configuration of PEFT; else 1 |
 * | scale, written | 1: another is multiplied into the factors, as most readers look at none of the above |
 * | axes | as PEFT |
 *
 * Source: diffusers 0.42, `utils/state_dict_utils.py`, `loaders/lora_base.py`.
 */
import type { Adapter } from "../adapter/adapter.ts";
import {
  type Location,
  type Metadata,
  type Reading,
  type Stored,
  type Written,
} from "./dialect.ts";
import { fold } from "./fold.ts";
import { keyed, lora } from "./peft.ts";
import { checkLora, chosen, type Config, parseConfig } from "./peft_config.ts";
import { loraFields } from "./peft_fields.ts";

const NAME = "diffusers";

/** The metadata that holds a configuration, each field with the network's name before it. */
const CONFIG = "lora_adapter_metadata";

/** A network of a pipeline, with its dot. */
const NETWORK = /^(unet|transformer|text_encoder(_\d)?)\./;

/** What follows a module's path, and kohya's suffix for it. */
const SUFFIXES: readonly (readonly [suffix: RegExp, kohya: string])[] = [
  [/\.lora_A(\.default)?\.weight$/, "lora_down.weight"],
  [/\.lora_B(\.default)?\.weight$/, "lora_up.weight"],
  [/\.lora(_linear_layer)?\.down\.weight$/, "lora_down.weight"],
  [/\.lora(_linear_layer)?\.up\.weight$/, "lora_up.weight"],
  [/_lora\.down\.weight$/, "lora_down.weight"],
  [/_lora\.up\.weight$/, "lora_up.weight"],
  [/\.lora_magnitude_vector(\.weight)?$/, "dora_scale"],
  [/\.lora_B(\.default)?\.bias$/, "lora_B.bias"],
  [/\.alpha$/, "alpha"],
];

/** `….attn1.processor.to_q` is `….attn1.to_q`, `….self_attn.to_q` of a text encoder `….self_attn.q_proj`. */
function pathOf(old: string, isProcessor: boolean): string {
  const path = old.replace(".processor.", ".");
  if (!isProcessor) return path;
  if (path.includes(".self_attn.")) return path.replace(/\.to_(q|k|v|out)$/, ".$1_proj");
  return path.replace(/\.to_out$/, ".to_out.0");
}

function locate(key: string): Location | undefined {
  const found = SUFFIXES.find(([suffix]) => suffix.test(key));
  if (!found) return undefined;
  const [suffix, kohya] = found, path = key.replace(suffix, "");
  return { module: pathOf(path, suffix.source.startsWith("_lora")), suffix: kohya };
}

/** A file with a factor under any of the suffixes. */
export function matches(keys: readonly string[]): boolean {
  return keys.some((key) => /^lora_(down|up)/.test(locate(key)?.suffix ?? ""));
}

/** The name that a packed configuration has put before the fields of a module's network, with its dot. */
function networkOf(module: string, packed: Config): string {
  const network = module.slice(0, module.indexOf(".") + 1);
  return `${network}r` in packed ? network : "";
}

function unpacked(packed: Config, network: string): Config {
  const own = Object.entries(packed).filter(([field]) => field.startsWith(network));
  return Object.fromEntries(own.map(([field, value]) => [field.slice(network.length), value]));
}

/** By the configuration in the metadata, where a key does not tell alpha. */
export function read(metadata: Metadata): Reading {
  const packed = CONFIG in metadata ? parseConfig(metadata[CONFIG], CONFIG) : {};
  const translators = new Map<string, ReturnType<typeof lora>>();
  const translatorOf = (network: string) => {
    const known = translators.get(network);
    if (known) return known;
    const config = unpacked(packed, network);
    checkLora(config, CONFIG);
    const made = lora(config);
    translators.set(network, made);
    return made;
  };
  const translate: Reading["translate"] = (module, torch) => {
    const network = networkOf(module, packed), rank = torch["lora_down.weight"].shape[0];
    const told = "alpha" in torch || !(`${network}r` in packed);
    if (!told) return translatorOf(network)(module.slice(network.length), torch);
    const config = { r: rank, lora_alpha: rank, use_dora: "dora_scale" in torch };
    return { ...lora(config)(module, torch), ...(torch.alpha && { alpha: torch.alpha }) };
  };
  return { locate, layer: told, implied: [], translate };
}

/** A module's path is its key. */
export function told(layer: string): string {
  return layer;
}

/** LoRA (with a magnitude by output) and DyLoRA as one. */
export function hold(layer: string, adapter: Adapter): Adapter {
  return fold(layer, adapter, NAME, ["output"]);
}

/**
 * What a text encoder's paths begin with in transformers before 5, and in every key. A configuration that leaves it out
 * names the modules of both, as PEFT compares the ends of paths.
 */
const CLIP = /^text_model\./;

/**
 * With a configuration in the metadata, by which diffusers tells modules of other ranks.
 *
 * transformers loads text encoders itself, and finds a magnitude by its parameter's whole name.
 */
export function write(modules: ReadonlyMap<string, Stored>, metadata: Metadata): Written {
  const tensors = [...modules].flatMap(([layer, stored]) =>
    keyed(stored).map(([suffix, tensor]) => {
      const whole = suffix === "lora_magnitude_vector" && layer.startsWith("text_encoder");
      return [`${layer}.${suffix}${whole ? ".weight" : ""}`, tensor] as Written["tensors"][number];
    })
  );
  const before = CONFIG in metadata ? parseConfig(metadata[CONFIG], CONFIG) : {};
  const networks = Map.groupBy(
    modules,
    ([layer]) => NETWORK.exec(layer)?.[0] ?? "",
  );
  const packed = [...networks].flatMap(([network, own]) => {
    const within = new Map(
      own.map(([layer, stored]) => [layer.slice(network.length).replace(CLIP, ""), stored]),
    );
    const fields = {
      ...(`${network}r` in before ? unpacked(before, network) : {}),
      ...loraFields(within, NAME),
      target_modules: chosen([...within.keys()]),
    };
    return Object.entries(fields).map(([field, value]) => [network + field, value] as const);
  });
  return {
    tensors,
    metadata: { format: "pt", ...metadata, [CONFIG]: JSON.stringify(Object.fromEntries(packed)) },
  };
}
