/**
 * diffusers 0.42.1, `load_lora_weights` of a Stable Diffusion pipeline.
 *
 * Of kohya's files it takes LoRA alone: `dora_scale` is dropped with a warning, any other key makes it raise. An alpha
 * is looked up by a name that attention's layers do not have: those get the commonest of their network.
 */
import type { Part } from "../adapter_modules.ts";
import { type Config, parseConfig, scaling } from "../peft_config.ts";
import { type Change, has, type Host, refuse, type StoredFile, type StoredModule } from "./host.ts";
import { lora } from "./peft.ts";

const LORA = ["lora_down.weight", "lora_up.weight"];

/** What its converter gives a name with `processor`, or `to_q_lora`, in it. */
const ATTENTION = /attn[12]_to_(q|k|v|out_0)$|self_attn_(q|k|v|out)_proj$/;

/** The network that a name of kohya's begins with. */
const networkOf = (module: string) => /^lora_(unet|te\d?)_/.exec(module)?.[1] ?? "";

/** The commonest alpha of each network. */
function commonest(alphas: ReadonlyMap<string, number>): Map<string, number> {
  const most = new Map<string, number>();
  for (const [network, own] of Map.groupBy(alphas, ([module]) => networkOf(module))) {
    const counts = Map.groupBy(own, ([, alpha]) => alpha);
    most.set(network, [...counts].sort(([, a], [, b]) => b.length - a.length)[0][0]);
  }
  return most;
}

function kohya({ keys, alphas }: StoredFile): (stored: StoredModule) => Change {
  const foreign = keys.find((key) =>
    !/^lora_(unet|te[12]?)_/.test(key) && !key.includes("dora_scale")
  );
  if (foreign !== undefined) refuse(`it raises, as "${foreign}" does not begin as kohya's do`);
  const left = keys.find((key) => !/\.(lora_(down|up)\.weight|alpha|dora_scale)$/.test(key));
  if (left !== undefined) refuse(`it raises, as "${left}" is no key of a LoRA`);
  const most = commonest(alphas);
  return ({ module, torch }) => {
    if (!has(torch, ...LORA)) refuse("it has no pair of lora_down and lora_up");
    const { dora_scale: _dropped, ...factors } = torch, rank = torch["lora_down.weight"].shape[0];
    const network = most.get(networkOf(module)) ?? rank;
    const alpha = ATTENTION.test(module) ? network : alphas.get(module) ?? network;
    return lora(factors, rank, alpha / rank);
  };
}

/** What the header says of each module, under its network's name; PEFT's own defaults otherwise. */
function configOf(metadata: StoredFile["metadata"], network: string): Config | undefined {
  const text = metadata.lora_adapter_metadata;
  if (text === undefined) return undefined;
  const packed = parseConfig(text, "lora_adapter_metadata");
  const own = Object.entries(packed).filter(([field]) => field.startsWith(network));
  const fields = Object.fromEntries(
    own.map(([field, value]) => [field.slice(network.length), value]),
  );
  return "r" in fields ? fields : undefined;
}

const isPeft = ({ key }: Part) => /\.lora_[AB]\b/.test(key);

function own({ keys, metadata, modules }: StoredFile): (stored: StoredModule) => Change {
  const odd = keys.find((key) => !key.includes("lora"));
  if (odd !== undefined) refuse(`it raises, as "${odd}" has no "lora" in it`);
  const NETWORK = /^(unet|transformer|text_encoder(_\d)?)\./;
  const prefixOf = (key: string) => NETWORK.exec(key)?.[0] ?? "";
  const firsts = new Map<string, boolean>();
  for (const key of keys) {
    const prefix = prefixOf(key);
    if (!firsts.has(prefix)) firsts.set(prefix, key.includes("lora_A"));
  }
  return ({ module, parts, torch }) => {
    if (!modules.has(module) || !has(torch, ...LORA)) refuse("it has no pair of lora_A and lora_B");
    const prefix = prefixOf(parts[0].key), rank = torch["lora_down.weight"].shape[0];
    // the first key decides whether older names are converted
    if (firsts.get(prefix) && !parts.some(isPeft)) {
      refuse(
        "it converts no older names where the first key is of the new ones, and leaves them aside",
      );
    }
    const config = configOf(metadata, prefix);
    if (!config) return lora(torch, rank, 1);
    const { rank: built, scale } = scaling(config)(module.slice(prefix.length));
    return lora(torch, built, scale);
  };
}

export const diffusers: Host = {
  title: "diffusers 0.42.1",
  dialect: "diffusers",
  open: (file) => {
    if (file.dialect === "kohya") return kohya(file);
    if (file.dialect === "diffusers") return own(file);
    if (file.dialect === "peft") {
      refuse("its pipelines look for the network's name before the module's path");
    }
    return refuse("it raises, as no key is called lora_down or lora_A");
  },
};
