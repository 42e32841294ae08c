/**
 * The modules that have weights in Stable Diffusion's UNets and text encoders, by their path in diffusers and
 * transformers, the network's own name first: `unet.conv_in`, `text_encoder.text_model.final_layer_norm`.
 *
 * Sizes are those of the published configurations; `names.ts` spells the paths as other programs do.
 */

/** The model families: one text encoder as CLIP or as OpenCLIP has it, or both. */
export type Family = "sd1" | "sd2" | "sdxl";

/** What of a UNet decides which modules it has. */
interface UNet {
  /** of each block on the way down */
  channels: readonly number[];
  /** transformer layers of each block on the way down, 0 for a block without attention */
  depths: readonly number[];
  /** whether the text's and the image size's embedding are added to the time's */
  added?: boolean;
}

const list = (length: number) => Array.from({ length }, (_, i) => i);
const under = (name: string, parts: readonly string[]) => parts.map((part) => `${name}.${part}`);

/** ResNets of a block on the way down; on the way up there is one more. */
const LAYERS = 2;

function resnet(name: string, shortcut: boolean): string[] {
  const parts = ["norm1", "conv1", "time_emb_proj", "norm2", "conv2"];
  return under(name, shortcut ? [...parts, "conv_shortcut"] : parts);
}

function attention(name: string): string[] {
  return under(name, ["to_q", "to_k", "to_v", "to_out.0"]);
}

function transformer(name: string, depth: number): string[] {
  const layers = list(depth).map((i) => `${name}.transformer_blocks.${i}`).flatMap((layer) => [
    `${layer}.norm1`,
    ...attention(`${layer}.attn1`),
    `${layer}.norm2`,
    ...attention(`${layer}.attn2`),
    `${layer}.norm3`,
    ...under(layer, ["ff.net.0.proj", "ff.net.2"]),
  ]);
  return depth > 0 ? [...under(name, ["norm", "proj_in"]), ...layers, `${name}.proj_out`] : [];
}

function unet({ channels, depths, added = false }: UNet): string[] {
  const last = channels.length - 1;
  const down = channels.flatMap((width, i) => [
    ...list(LAYERS).flatMap((j) => [
      ...transformer(`down_blocks.${i}.attentions.${j}`, depths[i]),
      ...resnet(`down_blocks.${i}.resnets.${j}`, j === 0 && i > 0 && width !== channels[i - 1]),
    ]),
    ...(i < last ? [`down_blocks.${i}.downsamplers.0.conv`] : []),
  ]);
  const up = channels.flatMap((_, i) => [
    ...list(LAYERS + 1).flatMap((j) => [
      ...transformer(`up_blocks.${i}.attentions.${j}`, depths[last - i]),
      ...resnet(`up_blocks.${i}.resnets.${j}`, true), // what it reads are two images side by side
    ]),
    ...(i < last ? [`up_blocks.${i}.upsamplers.0.conv`] : []),
  ]);
  const middle = [
    ...transformer("mid_block.attentions.0", depths[last] || 1),
    ...list(2).flatMap((j) => resnet(`mid_block.resnets.${j}`, false)),
  ];
  const embedding = ["time_embedding", ...(added ? ["add_embedding"] : [])]
    .flatMap((name) => under(name, ["linear_1", "linear_2"]));
  return ["conv_in", ...embedding, ...down, ...up, ...middle, "conv_norm_out", "conv_out"];
}

function textEncoder(layers: number, projected = false): string[] {
  const inside = list(layers).flatMap((i) =>
    under(`encoder.layers.${i}`, [
      ...under("self_attn", ["k_proj", "v_proj", "q_proj", "out_proj"]),
      ...["layer_norm1", "mlp.fc1", "mlp.fc2", "layer_norm2"],
    ])
  );
  const embeddings = under("embeddings", ["token_embedding", "position_embedding"]);
  return [
    ...under("text_model", [...embeddings, ...inside, "final_layer_norm"]),
    ...(projected ? ["text_projection"] : []),
  ];
}

const UNET: UNet = { channels: [320, 640, 1280, 1280], depths: [1, 1, 1, 0] };
const UNET_XL: UNet = { channels: [320, 640, 1280], depths: [0, 2, 10], added: true };

/** The published models: their family, and the paths of their modules. */
export const MODELS = {
  sd15: {
    family: "sd1",
    modules: [...under("unet", unet(UNET)), ...under("text_encoder", textEncoder(12))],
  },
  sd21: {
    family: "sd2",
    modules: [...under("unet", unet(UNET)), ...under("text_encoder", textEncoder(23))],
  },
  sdxl: {
    family: "sdxl",
    modules: [
      ...under("unet", unet(UNET_XL)),
      ...under("text_encoder", textEncoder(12)),
      ...under("text_encoder_2", textEncoder(32, true)),
    ],
  },
} as const satisfies Record<string, { family: Family; modules: readonly string[] }>;
