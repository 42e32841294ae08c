/**
 * The walk of LyCORIS over a network: which modules take an adapter, with which algorithm, rank and alpha.
 *
 * A pure function of a list of modules, a preset and the network's settings: where LyCORIS keeps a preset in its
 * network class, so that the next network of the process has it too, here two networks share nothing.
 */
import type { AlgorithmName } from "../algorithms/table.ts";
import { fnmatch, startsLike } from "./match.ts";
import { type Module, within } from "./modules.ts";
import type { Preset } from "./presets.ts";
import { legible, type ModuleSettings, settingsFrom } from "./settings.ts";

/** The settings of a whole network. */
export interface NetworkSettings extends ModuleSettings {
  algorithm: AlgorithmName;
  /** of linear layers and pointwise convolutions; 0 leaves linear layers out */
  rank: number;
  /** the rank of kernels wider than a point, 0 to leave them out; default: the rank of all others */
  conv?: number;
  /** the alpha of kernels wider than a point; default: as given for all */
  convAlpha?: number;
  /** adapt normalizations that the rules reach too (LyCORIS `train_norm`) */
  norm?: boolean;
  /** adapt the language model's adapter in front of some networks (LyCORIS `train_llm_adapter`) */
  llmAdapter?: boolean;
}

/**
 * Which of a preset's lists count: those of one half of a diffusion model, as kohya's trainer names them, or those of
 * a network by itself, as `create_lycoris` does.
 */
export type Part = "unet" | "text_encoder" | "network";

/** Settings with nothing left open. */
export type Settled = ModuleSettings & { algorithm: AlgorithmName; rank: number };

/** A module that takes an adapter. */
export interface Picked {
  /** in a file */
  readonly name: string;
  readonly module: Module;
  readonly settings: Settled;
}

/** What names in a file begin with. */
const PREFIXES = { unet: "lora_unet", text_encoder: "lora_te", network: "lycoris" };

/** The classes that `create_lycoris` looks for when nothing is said. */
const LAYERS = ["Linear", "Conv1d", "Conv2d", "Conv3d", "GroupNorm", "LayerNorm"];

const LLM_ADAPTER = "LLMAdapterTransformerBlock";

/** The lists of a preset that count for a part. */
function targets(
  preset: Preset,
  part: Part,
): { classes: readonly string[]; names: readonly string[] } {
  if (part !== "network") {
    return {
      classes: preset[`${part}_target_module`] ?? [],
      names: preset[`${part}_target_name`] ?? [],
    };
  }
  const { target_module = LAYERS, target_name = [], module_algo_map, name_algo_map } = preset;
  return {
    classes: [...target_module, ...Object.keys(module_algo_map ?? {})],
    names: [...target_name, ...Object.keys(name_algo_map ?? {})],
  };
}

/**
 * The settings of one module, or none where it takes no adapter.
 *
 * LyCORIS calls a convolution pointwise by the first length of its kernel alone, so a 1×3 has the linear rank.
 */
function settled(
  { class: kind, kernel }: Module,
  own: ModuleSettings,
  network: NetworkSettings,
  convolutions: boolean,
): Settled | undefined {
  const { conv = network.rank, convAlpha = network.alpha, norm, ...common } = network;
  if (norm && kind.includes("Norm")) {
    return legible({ ...common, algorithm: "norm", rank: 0 }, "norm");
  }
  if (!kernel) return undefined;
  const narrow = network.rank > 0 && (kernel.length === 2 || kernel[0] === 1);
  if (!narrow && (kernel.length === 2 || !(own.rank || (convolutions && conv > 0)))) {
    return undefined;
  }
  const algorithm = own.algorithm ?? network.algorithm;
  const [rank, alpha] = narrow ? [network.rank, network.alpha] : [conv, convAlpha];
  // LyCORIS takes a 0 of the module's own for nothing said
  const settings = { ...common, ...own, rank: own.rank || rank, alpha: own.alpha || alpha };
  return legible({ ...settings, algorithm }, algorithm);
}

/**
 * The modules of a network that take an adapter, in the order in which LyCORIS makes them.
 *
 * - A class of the preset's: everything inside such a module, each linear layer and convolution by itself; inside, a
 *   class of `module_algo_map` goes over to the settings there.
 * - A name of the preset's: that module alone. Names are expressions that hold from the start (`.*to_k`), or globs.
 * - What `exclude_name` matches, by its whole path, takes none. The first adapter of a name stays.
 *
 * Settings that an algorithm does not read are left out, as LyCORIS passes them by.
 *
 * @throws {TypeError} for settings in the preset that LyCORIS does not read
 *
 * @example
 * ```ts
 * import { pick, PRESETS } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const modules = [
 *   { path: "", class: "UNet" },
 *   { path: "attn", class: "CrossAttention" },
 *   { path: "attn.to_q", class: "Linear", kernel: [8, 8] },
 *   { path: "out", class: "Linear", kernel: [8, 8] },
 * ];
 * const picked = pick(modules, PRESETS["attn-only"], { algorithm: "lora", rank: 4 }, "unet");
 * assert.equal(picked.map(({ name }) => name), ["lora_unet_attn_to_q"]);
 * ```
 */
export function pick(
  modules: readonly Module[],
  preset: Preset,
  network: NetworkSettings,
  part: Part = "network",
): Picked[] {
  const { module_algo_map = {}, name_algo_map = {}, exclude_name = [], enable_conv = true } =
    preset;
  const { classes: all, names } = targets(preset, part);
  const classes = part !== "text_encoder" && !network.llmAdapter
    ? all.filter((name) => name !== LLM_ADAPTER)
    : all;
  const holds = preset.use_fnmatch ? fnmatch : startsLike;
  const excluded = (path: string) =>
    path !== "" && exclude_name.some((name) => name === path || holds(path, name));
  const ofClass = (kind: string): ModuleSettings | undefined =>
    Object.hasOwn(module_algo_map, kind) ? settingsFrom(module_algo_map[kind], kind) : undefined;
  const ofName = (path: string): ModuleSettings | undefined => {
    const key = Object.hasOwn(name_algo_map, path)
      ? path
      : Object.keys(name_algo_map).find((name) => holds(path, name));
    return key === undefined ? undefined : settingsFrom(name_algo_map[key], key);
  };
  const prefix = (part === "network" && preset.lora_prefix) || PREFIXES[part];
  const picked = new Map<string, Picked>();
  const add = (module: Module, own: ModuleSettings = {}) => {
    const name = `${prefix}_${module.path}`.replaceAll(".", "_");
    const settings = settled(module, own, network, enable_conv);
    if (settings && !picked.has(name)) picked.set(name, { name, module, settings });
  };
  const descend = (root: Module, own: ModuleSettings | undefined, algorithm?: AlgorithmName) => {
    for (const module of within(modules, root)) {
      if (excluded(module.path)) continue;
      const inner = module.path === root.path ? undefined : ofClass(module.class);
      if (inner) descend(module, inner, inner.algorithm ?? algorithm);
      else add(module, { algorithm, ...own });
    }
  };
  for (const module of modules) {
    if (excluded(module.path)) continue;
    const meant = names.some((name) => holds(module.path, name));
    if (classes.includes(module.class) && !meant) {
      const own = ofClass(module.class);
      descend(module, own, own?.algorithm);
    } else if (meant || names.includes(module.path)) {
      add(module, ofName(module.path) ?? ofClass(module.class));
    }
  }
  return [...picked.values()];
}
