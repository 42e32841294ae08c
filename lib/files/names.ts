/**
 * What a module is called in diffusers, in kohya's files and in a CompVis / SGM checkpoint.
 *
 * Names are matched model-first: a table is made of the model's modules, and looked up. Nothing is parsed: kohya's
 * names have `_` both for the dots and inside a word, and cannot be undone.
 *
 * | | UNet | text encoders |
 * | --- | --- | --- |
 * | diffusers | `unet.down_blocks.0.resnets.0.conv1` | `text_encoder.text_model…`, `text_encoder_2.…` |
 * | kohya, SD 1.x and 2.x | `lora_unet_down_blocks_0_resnets_0_conv1` | `lora_te_text_model…` |
 * | kohya, SDXL | `lora_unet_input_blocks_1_0_in_layers_2` | `lora_te1_…`, `lora_te2_…` |
 * | LDM | `model.diffusion_model.input_blocks.1.0.in_layers.2` | `cond_stage_model.…`, `conditioner.embedders.…` |
 *
 * Source: kohya's `sdxl_model_util.make_unet_conversion_map` and diffusers' `convert_from_ckpt`.
 */
import { compvis, type InCheckpoint, openclip, weightOf } from "./ldm.ts";
import { type Family, MODELS } from "./stable_diffusion.ts";

export type { InCheckpoint } from "./ldm.ts";

/** A published model, another one of its kind, or the paths of the modules of any network. */
export type Model =
  | keyof typeof MODELS
  | { family: Family; modules: readonly string[] }
  | readonly string[];

/** The names of one module. */
export interface Names {
  /** the network's name and the module's path: `unet.conv_in` */
  diffusers: string;
  /** the path alone */
  path: string;
  /** as kohya's trainer writes it: {@link flat}, under SDXL {@link sgm} */
  kohya: string;
  /** kohya's prefix and diffusers' path, which every reader knows */
  flat: string;
  /** kohya's prefix and LDM's path; of a UNet */
  sgm?: string;
  /** in a CompVis / SGM checkpoint */
  ldm?: InCheckpoint;
}

/** A network within a model: how kohya and a checkpoint begin its names. */
interface Network {
  kohya: string;
  ldm: string;
  /** its module's place, by the path after `ldm` */
  place(path: string, modules: ReadonlySet<string>): InCheckpoint | undefined;
}

const TRANSFORMERS = (ldm: string, kohya: string): Network => ({
  kohya,
  ldm: `${ldm}.transformer.`,
  place: (path) => weightOf(path),
});
const OPENCLIP = (ldm: string, kohya: string): Network => ({
  kohya,
  ldm: `${ldm}.model.`,
  place: openclip,
});
const UNET: Network = { kohya: "lora_unet_", ldm: "model.diffusion_model.", place: compvis };

const NETWORKS: Record<Family, Record<string, Network>> = {
  sd1: { unet: UNET, text_encoder: TRANSFORMERS("cond_stage_model", "lora_te_") },
  sd2: { unet: UNET, text_encoder: OPENCLIP("cond_stage_model", "lora_te_") },
  sdxl: {
    unet: UNET,
    text_encoder: TRANSFORMERS("conditioner.embedders.0", "lora_te1_"),
    text_encoder_2: OPENCLIP("conditioner.embedders.1", "lora_te2_"),
  },
};

const flatten = (path: string) => path.replaceAll(".", "_");

/** The names of one module of a family; undefined for a network that the family does not have. */
function named(module: string, family: Family, modules: ReadonlySet<string>): Names | undefined {
  const [component, ...rest] = module.split("."), path = rest.join(".");
  const network = NETWORKS[family][component];
  if (!network) return undefined;
  const inside = network.place(path, modules), flat = network.kohya + flatten(path);
  const sgm = component === "unet" && inside
    ? network.kohya + flatten(inside.weight.slice(0, -".weight".length))
    : undefined;
  const ldm = inside && {
    ...inside,
    weight: network.ldm + inside.weight,
    ...(inside.bias && { bias: network.ldm + inside.bias }),
  };
  return {
    diffusers: module,
    path,
    kohya: family === "sdxl" ? sgm ?? flat : flat,
    flat,
    ...(sgm && { sgm }),
    ...(ldm && { ldm }),
  };
}

/**
 * The names of every module of a model, in the order of its modules.
 *
 * The modules of a network that is none of Stable Diffusion's are called by their own names everywhere.
 */
export function namesOf(model: Model): readonly Names[] {
  const { family, modules }: { family?: Family; modules: readonly string[] } =
    typeof model === "string" ? MODELS[model] : "modules" in model ? model : { modules: model };
  const all: ReadonlySet<string> = new Set(modules);
  return modules.map((module: string) =>
    family && named(module, family, all) || {
      diffusers: module,
      path: module,
      kohya: flatten(module),
      flat: flatten(module),
      ldm: weightOf(module),
    }
  );
}

/** A module's name under each spelling, without what a checkpoint adds for the tensor. */
function spelled({ diffusers, path, kohya, flat, sgm, ldm }: Names): Record<Spelling, string> {
  const key = ldm?.weight.replace(/\.weight$/, "") ?? diffusers;
  return { diffusers, path, kohya, flat, sgm: sgm ?? flat, ldm: key };
}

/** How a module can be called. */
export type Spelling = "diffusers" | "path" | "kohya" | "flat" | "sgm" | "ldm";

/** How other programs begin a path that is a network's own. */
const OWN = /^(model\.diffusion_model|diffusion_model|transformer|unet|model)\./;

/** Names that readers meet besides, of a module of Stable Diffusion and of any other network. */
function others(names: Names): string[] {
  const { diffusers, path, ldm } = names, bare = path.replace(OWN, ""), flat = flatten(bare);
  const known = Object.values(spelled(names)).flatMap((name) => [
    name.replace(/^model\.(?=diffusion_model\.)/, ""), // ComfyUI's
    name.replace(/^lora_te_/, "lora_te1_"), // diffusers' own converter numbers a single encoder too
    name.replace(/^lora_te1_/, "lora_te_"),
  ]);
  const own = diffusers === path && ldm?.weight === `${path}.weight`;
  return [
    ...known,
    ...[path, diffusers].map(flatten),
    ...(own ? [bare, flat, `lora_unet_${flat}`, `lora_transformer_${flat}`] : []),
  ];
}

/**
 * The module that each name means, however it is spelled; undefined where several are called so.
 *
 * One of a module's own spellings goes before what another might be called besides.
 */
export function lookup(model: Model): Map<string, Names | undefined> {
  const all = namesOf(model);
  const table = (namesIn: (names: Names) => string[]) => {
    const found = new Map<string, Names | undefined>();
    for (const names of all) {
      for (const name of new Set(namesIn(names))) {
        found.set(name, found.has(name) ? undefined : names);
      }
    }
    return found;
  };
  return new Map([...table(others), ...table((names) => Object.values(spelled(names)))]);
}

/**
 * The same values under other names: each name is looked up in the model, however it is spelled.
 *
 * @param to `"diffusers"` (`unet.conv_in`), `"path"` (`conv_in`), `"kohya"` (what kohya's trainer writes for the model),
 *   `"flat"` or `"sgm"` (one of its two ways), `"ldm"` (as in a checkpoint)
 * @param model `"sd15"`, `"sd21"`, `"sdxl"`; another model of such a family and its modules; or the paths of the
 *   modules of any other network, whose names are its own everywhere
 * @throws {RangeError} for a name that the model does not have, or two values that would get one name
 *
 * @example
 * ```ts
 * import { files } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const kohya = new Map([["lora_unet_mid_block_attentions_0_proj_in", 1]]);
 * const renamed = files.rename(kohya, { to: "diffusers", model: "sd15" });
 * assert.equal([...renamed], [["unet.mid_block.attentions.0.proj_in", 1]]);
 * ```
 */
export function rename<T>(
  values: ReadonlyMap<string, T>,
  { to, model }: { to: Spelling; model: Model },
): Map<string, T> {
  const modules = lookup(model), renamed = new Map<string, T>();
  for (const [name, value] of values) {
    const refuse = (rule: string, current: string): never => {
      throw new RangeError(`Cannot rename "${name}" as ${rule}: current ${current}`);
    };
    const names = modules.get(name) ??
      (modules.has(name)
        ? refuse(
          "it must be one module's name",
          "name is that of several, put the network's before",
        )
        : refuse("it must be a module of the model", `model has ${modules.size} names, not this`));
    const own = spelled(names)[to];
    if (renamed.has(own)) {
      refuse(`its name in ${to} must be its own`, `name is "${own}", and taken`);
    }
    renamed.set(own, value);
  }
  return renamed;
}

/** The first published model that has a module of every one of these names, if there is one. */
export function modelOf(names: Iterable<string>): keyof typeof MODELS | undefined {
  const wanted = [...names];
  const known = (model: keyof typeof MODELS) => {
    const modules = lookup(model);
    return wanted.every((name) => modules.get(name));
  };
  return (Object.keys(MODELS) as (keyof typeof MODELS)[]).find(known);
}
