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

const numbered = (side: string, numbers: readonly number[]) => numbers.map((i) => label(side, i));
const from = (first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, i) => first + i);

/** What the numbers of a list are for, by how many there are: all blocks, or those with attention, of SD and SDXL. */
const LISTS: readonly (readonly string[])[] = [
  ["BASE", ...numbered("IN", from(0, 11)), "MID", ...numbered("OUT", from(0, 11))],
  ["BASE", ...numbered("IN", [1, 2, 4, 5, 7, 8]), "MID", ...numbered("OUT", from(3, 11))],
  ["BASE", ...numbered("IN", from(0, 8)), "MID", ...numbered("OUT", from(0, 8))],
  ["BASE", ...numbered("IN", [4, 5, 7, 8]), "MID", ...numbered("OUT", from(0, 5))],
];

/**
 * How much of each block, from text: numbers for the blocks in order, or numbers by name.
 *
 * - 26 numbers: `BASE`, `IN00` … `IN11`, `MID`, `OUT00` … `OUT11`; 17: those of them that have attention in SD 1 and 2;
 *   20 and 12: the same of SDXL. What is in none of the list's blocks gets 0, as in sd-webui-lora-block-weight and
 *   kohya's `--lbws`.
 * - `IN=0.5,MID=1,OUT03=0`: a block, or a whole side; a block's own goes before its side's, and what is not named gets 1.
 *
 * @returns a block's number by its label, see {@link blockOf}
 * @throws {RangeError} for another count of numbers, or a name that no block has
 *
 * @example
 * ```ts
 * import { blockWeights } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const weights = blockWeights("IN=0.5, IN04=0");
 * assert.equal(["IN03", "IN04", "MID"].map(weights), [0.5, 0, 1]);
 * ```
 */
export function blockWeights(text: string): (label: string) => number {
  const words = text.split(",").map((word) => word.trim());
  const refuse = (rule: string, current: string): never => {
    throw new RangeError(`Cannot read the blocks "${text}" as ${rule}: current ${current}`);
  };
  const number = (word: string) => {
    const value = Number(word);
    if (word.trim() !== "" && Number.isFinite(value)) return value;
    return refuse("each has a number, or all have names as in IN=0.5,OUT03=0", `word is "${word}"`);
  };
  if (!text.includes("=")) {
    const labels = LISTS.find(({ length }) => length === words.length) ?? refuse(
      `there are ${LISTS.map(({ length }) => length).join(", ")} of them in a list`,
      `count is ${words.length}`,
    );
    const weights = new Map(labels.map((label, i) => [label, number(words[i])]));
    return (label) => weights.get(label) ?? 0;
  }
  const weights = new Map(words.map((word) => {
    const [given, value = ""] = word.split("=").map((part) => part.trim());
    const name = given.toUpperCase();
    if (LISTS[0].includes(name) || name === "IN" || name === "OUT") return [name, number(value)];
    return refuse("names are BASE, IN, MID, OUT, or a block's as IN04", `name is "${given}"`);
  }));
  return (label) => weights.get(label) ?? weights.get(label.replace(/\d+$/, "")) ?? 1;
}
