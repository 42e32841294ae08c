/**
 * Stable Diffusion's networks as CompVis' and StabilityAI's code calls their modules (LDM, SGM), and OpenCLIP a text
 * encoder's: from diffusers' paths and back.
 *
 * The way back is no undoing of text: the blocks are counted in the list of all modules, as the way there does.
 *
 * Source: diffusers' `convert_from_ckpt`, kohya's `sdxl_model_util.make_unet_conversion_map`.
 */

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

/** A module that is stored as PyTorch stores any: `….weight`, and `….bias` unless it is an embedding. */
export const weightOf = (path: string): InCheckpoint => ({
  weight: `${path}.weight`,
  ...(!path.includes("embeddings.") && { bias: `${path}.bias` }),
});

/** A table from the other side. */
const turned = (table: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(table).map(([from, to]) => [to, from]));

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

const RESNET_BACK = turned(RESNET), ENDS_BACK = turned(ENDS);

/**
 * A UNet's module in LDM: it counts the blocks of both sides through.
 *
 * On the way down a block is n ResNets and a downsampler, an entry each; on the way up n ResNets, the last of which
 * has the upsampler in its own entry, behind the attention if there is one.
 *
 * @param path in diffusers
 * @param modules all paths, each behind `unet.`
 */
export function compvis(path: string, modules: ReadonlySet<string>): InCheckpoint | undefined {
  if (Object.hasOwn(ENDS, path)) return weightOf(ENDS[path]);
  const found = /^(down_blocks|up_blocks|mid_block)\.(?:(\d+)\.)?([a-z]+)\.(\d+)\.(.+)$/.exec(path);
  if (!found) return undefined;
  const [, side, block, kind, nth, rest] = found, j = Number(nth);
  const inside = kind === "resnets" ? RESNET[rest] : rest;
  if (!inside) return undefined;
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

/**
 * What the entries of one side of a UNet are in diffusers: `input_blocks.1.0` → `down_blocks.0.resnets.0`.
 *
 * @param paths of modules in LDM
 */
function entries(paths: ReadonlySet<string>, side: "input" | "output"): Map<string, string> {
  const down = side === "input",
    own = `${side}_blocks`,
    theirs = down ? "down_blocks" : "up_blocks";
  const indices = [...paths].flatMap((path) =>
    path.startsWith(`${own}.`) ? [Number(path.split(".")[1])] : []
  );
  const found = new Map<string, string>();
  let block = 0, nth = 0;
  for (let i = down ? 1 : 0; i <= Math.max(...indices); i++) {
    const at = `${own}.${i}`, sampler = (part: string) => paths.has(`${at}.${part}`);
    if (sampler("0.op")) {
      found.set(`${at}.0.op`, `${theirs}.${block++}.downsamplers.0.conv`);
      nth = 0;
      continue;
    }
    found.set(`${at}.0`, `${theirs}.${block}.resnets.${nth}`);
    found.set(`${at}.1`, `${theirs}.${block}.attentions.${nth++}`);
    const up = ["1.conv", "2.conv"].find(sampler);
    if (!up) continue;
    found.set(`${at}.${up}`, `${theirs}.${block++}.upsamplers.0.conv`);
    nth = 0;
  }
  return found;
}

/**
 * The paths in diffusers of a UNet's modules in LDM: the inverse of {@link compvis}, for all of them at once.
 *
 * @param paths of all modules; none of those that it cannot be is in the answer
 */
export function fromCompvis(paths: ReadonlySet<string>): Map<string, string> {
  const found = new Map<string, string>();
  const blocks = new Map([...entries(paths, "input"), ...entries(paths, "output")]);
  for (const path of paths) {
    if (Object.hasOwn(ENDS_BACK, path)) found.set(path, ENDS_BACK[path]);
    if (blocks.has(path)) found.set(path, blocks.get(path)!);
    if (found.has(path)) continue;
    const [side, i, j, ...rest] = path.split(".");
    const [entry, inside] = side === "middle_block"
      ? [i === "1" ? "mid_block.attentions.0" : `mid_block.resnets.${Number(i) / 2}`, [j, ...rest]]
      : [blocks.get(`${side}.${i}.${j}`), rest];
    if (!entry) continue;
    const own = inside.join(".");
    const theirs = entry.includes("resnets") ? RESNET_BACK[own] : own;
    if (theirs) found.set(path, `${entry}.${theirs}`);
  }
  return found;
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
export function openclip(path: string): InCheckpoint | undefined {
  if (path === "text_projection") return { weight: path, transposed: true };
  if (path === "text_model.final_layer_norm") return weightOf("ln_final");
  if (path === "text_model.embeddings.token_embedding") return { weight: "token_embedding.weight" };
  if (path === "text_model.embeddings.position_embedding") {
    return { weight: "positional_embedding" };
  }
  const found = /^text_model\.encoder\.layers\.(\d+)\.(.+)$/.exec(path);
  if (!found) return undefined;
  const layer = `transformer.resblocks.${found[1]}`, third = THIRDS.indexOf(found[2]);
  if (third < 0) return LAYER[found[2]] ? weightOf(`${layer}.${LAYER[found[2]]}`) : undefined;
  const of = (what: string) => `${layer}.attn.in_proj_${what}`;
  return { weight: of("weight"), bias: of("bias"), third: third as 0 | 1 | 2 };
}

/**
 * The modules of CLIP in transformers that OpenCLIP's keys hold: the inverse of {@link openclip}.
 *
 * @param keys of its tensors
 */
export function fromOpenclip(keys: ReadonlySet<string>): Map<string, InCheckpoint> {
  const layers = [...keys].flatMap((key) => {
    const found = /^transformer\.resblocks\.(\d+)\.ln_1\.weight$/.exec(key);
    return found ? [`text_model.encoder.layers.${found[1]}`] : [];
  });
  const inside = [...THIRDS, ...Object.keys(LAYER)];
  const embeddings = ["token_embedding", "position_embedding"].map((name) => `embeddings.${name}`);
  const paths = [
    ...[...embeddings, "final_layer_norm"].map((path) => `text_model.${path}`),
    ...layers.flatMap((layer) => inside.map((part) => `${layer}.${part}`)),
    "text_projection",
  ];
  const places = paths.map((path) => [path, openclip(path)!] as const);
  return new Map(places.filter(([, { weight }]) => keys.has(weight)));
}
