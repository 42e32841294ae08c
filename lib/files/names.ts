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
import { type Family, MODELS } from "./stable_diffusion.ts";

/** A published model, another one of its kind, or the paths of the modules of any network. */
export type Model =
  | keyof typeof MODELS
  | { family: Family; modules: readonly string[] }
  | readonly string[];

/** Where a checkpoint keeps a module's weight. */
export interface InCheckpoint {
  weight: string;
  /** where its bias would be */
  bias?: string;
  /** only this third of the rows: OpenCLIP has q, k and v in one matrix */
  third?: 0 | 1 | 2;
  /** stored `[I, O]`, as a bare matrix that is multiplied from the right */
  transposed?: true;
}

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

const weightOf = (path: string): InCheckpoint => ({
  weight: `${path}.weight`,
  ...(!path.includes("embeddings.") && { bias: `${path}.bias` }),
});

const RESNET: Record<string, string> = {
  norm1: "in_layers.0",
  conv1: "in_layers.2",
  time_emb_proj: "emb_layers.1",
  norm2: "out_layers.0",
  conv2: "out_layers.3",
  conv_shortcut: "skip_connection",
};

const ENDS: Record<string, string> = {
  conv_in: "input_blocks.0.0",
  "time_embedding.linear_1": "time_embed.0",
  "time_embedding.linear_2": "time_embed.2",
  "add_embedding.linear_1": "label_emb.0.0",
  "add_embedding.linear_2": "label_emb.0.2",
  conv_norm_out: "out.0",
  conv_out: "out.2",
};

/**
 * A UNet's module: LDM counts the blocks of both sides through.
 *
 * On the way down a block is n ResNets and a downsampler, an entry each; on the way up n ResNets, the last of which
 * has the upsampler in its own entry, behind the attention if there is one.
 */
function compvis(path: string, modules: ReadonlySet<string>): InCheckpoint | undefined {
  if (path in ENDS) return weightOf(ENDS[path]);
  const found = /^(down_blocks|up_blocks|mid_block)\.(?:(\d+)\.)?([a-z]+)\.(\d+)\.(.+)$/.exec(path);
  if (!found) return undefined;
  const [, side, block, kind, nth, rest] = found, j = Number(nth);
  const inside = kind === "resnets" ? RESNET[rest] : rest;
  if (side === "mid_block") {
    return weightOf(`middle_block.${kind === "attentions" ? 1 : 2 * j}.${inside}`);
  }
  const has = (i: number, part: string) => modules.has(`unet.${side}.${i}.${part}`);
  const resnets = (i: number) => {
    let n = 0;
    while (has(i, `resnets.${n}.conv1`)) n++;
    return n;
  };
  const blocks = Array.from({ length: Number(block) }, (_, i) => resnets(i));
  const sum = blocks.reduce((a, n) => a + n, 0), n = resnets(Number(block));
  const down = side === "down_blocks", first = down ? 1 + sum + blocks.length : sum;
  const entry = down ? "input_blocks" : "output_blocks";
  if (kind === "downsamplers") return weightOf(`${entry}.${first + n}.0.op`);
  if (kind === "upsamplers") {
    const behind = has(Number(block), "attentions.0.proj_in") ? 2 : 1;
    return weightOf(`${entry}.${first + n - 1}.${behind}.conv`);
  }
  return weightOf(`${entry}.${first + j}.${kind === "attentions" ? 1 : 0}.${inside}`);
}

const LAYER: Record<string, string> = {
  "self_attn.out_proj": "attn.out_proj",
  layer_norm1: "ln_1",
  layer_norm2: "ln_2",
  "mlp.fc1": "mlp.c_fc",
  "mlp.fc2": "mlp.c_proj",
};

const THIRDS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];

/** A module of CLIP as OpenCLIP calls it. */
function openclip(path: string): InCheckpoint | undefined {
  if (path === "text_projection") return { weight: path, transposed: true };
  if (path === "text_model.final_layer_norm") return weightOf("ln_final");
  if (path === "text_model.embeddings.token_embedding") return { weight: "token_embedding.weight" };
  if (path === "text_model.embeddings.position_embedding") {
    return { weight: "positional_embedding" };
  }
  const found = /^text_model\.encoder\.layers\.(\d+)\.(.+)$/.exec(path);
  if (!found) return undefined;
  const layer = `transformer.resblocks.${found[1]}`, third = THIRDS.indexOf(found[2]);
  if (third < 0) return weightOf(`${layer}.${LAYER[found[2]]}`);
  const of = (what: string) => `${layer}.attn.in_proj_${what}`;
  return { weight: of("weight"), bias: of("bias"), third: third as 0 | 1 | 2 };
}

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

/** The module that each name means; undefined where several are called so. */
function index(model: Model): Map<string, Names | undefined> {
  const found = new Map<string, Names | undefined>();
  for (const names of namesOf(model)) {
    const all = Object.values(spelled(names));
    const others = all.flatMap((name) => [
      name.replace(/^model\.(?=diffusion_model\.)/, ""), // ComfyUI's
      name.replace(/^lora_te_/, "lora_te1_"), // diffusers' own converter numbers a single encoder too
    ]);
    for (const name of new Set([...all, ...others])) {
      found.set(name, found.has(name) ? undefined : names);
    }
  }
  return found;
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
  const modules = index(model), renamed = new Map<string, T>();
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
    const modules = index(model);
    return wanted.every((name) => modules.get(name));
  };
  return (Object.keys(MODELS) as (keyof typeof MODELS)[]).find(known);
}
