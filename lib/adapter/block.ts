/** Which block of Stable Diffusion a layer is in, by the labels that per-block weights go by. */

/** The blocks of a UNet as its own names and diffusers' tell them, dots and underscores alike. */
const BLOCKS: readonly [name: RegExp, label: (...numbers: number[]) => string][] = [
  [/(^|_)input_blocks_(\d+)_/, (i) => label("IN", i)],
  [/(^|_)middle_block_/, () => "MID"],
  [/(^|_)output_blocks_(\d+)_/, (i) => label("OUT", i)],
  [/(^|_)down_blocks_(\d+)_downsamplers_/, (i) => label("IN", 3 * i + 3)],
  [/(^|_)down_blocks_(\d+)_[a-z]+_(\d+)_/, (i, j) => label("IN", 3 * i + j + 1)],
  [/(^|_)mid_block_/, () => "MID"],
  [/(^|_)up_blocks_(\d+)_upsamplers_/, (i) => label("OUT", 3 * i + 2)],
  [/(^|_)up_blocks_(\d+)_[a-z]+_(\d+)_/, (i, j) => label("OUT", 3 * i + j)],
  [/(^|_)conv_in(_|$)/, () => label("IN", 0)],
];

function label(side: string, index: number): string {
  return side + String(index).padStart(2, "0");
}

/**
 * `IN00` … `OUT11`, `MID`, or `BASE` for text encoders and what is in no block.
 *
 * A block is what the UNet's own names call one (`input_blocks.4`), also where a name is diffusers', whose down
 * blocks have three of them each; so the labels hold for SD 1, SD 2 and, up to `OUT08`, SDXL.
 *
 * @param name of a layer in any dialect
 *
 * @example
 * ```ts
 * import { blockOf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * assert.is(blockOf("lora_unet_down_blocks_0_attentions_1_proj_in"), "IN02");
 * assert.is(blockOf("model.diffusion_model.middle_block.1.proj_in"), "MID");
 * assert.is(blockOf("lora_te_text_model_encoder_layers_0_mlp_fc1"), "BASE");
 * ```
 */
export function blockOf(name: string): string {
  const plain = name.replaceAll(".", "_");
  for (const [pattern, told] of BLOCKS) {
    const found = plain.match(pattern);
    if (found) return told(...found.slice(2).map(Number));
  }
  return "BASE";
}
