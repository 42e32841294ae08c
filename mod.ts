/**
 * Low-rank adaptation of convolutional and linear layers on TensorFlow.js.
 *
 * Importing it starts the fastest engine this machine has (`engine.name` tells which), unless the program
 * has selected a TensorFlow.js backend of its own.
 *
 * @example
 * ```ts
 * import { lora, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const model = tf.sequential({
 *   layers: [
 *     tf.layers.conv2d({ name: "conv", inputShape: [8, 8, 3], filters: 16, kernelSize: 3 }),
 *     tf.layers.flatten(),
 *     tf.layers.dense({ name: "head", units: 4 }),
 *   ],
 * });
 * const x = tf.ones([2, 8, 8, 3]), before = model.predict(x) as tf.Tensor;
 *
 * const adapters = lora.model(model, 4, { alpha: 2 });
 * const after = model.predict(x) as tf.Tensor;
 * assert.equal([...after.dataSync()], [...before.dataSync()]); // born as ΔW = 0
 * assert.is(adapters.parameters, 4 * (27 + 16) + 4 * (576 + 4));
 * adapters.detach();
 * ```
 *
 * @module
 */
import { truncate } from "./lib/adapter/low_rank.ts";
import * as boftAlgorithm from "./lib/algorithms/boft.ts";
import * as dyloraAlgorithm from "./lib/algorithms/dylora.ts";
import * as fullAlgorithm from "./lib/algorithms/full.ts";
import * as gloraAlgorithm from "./lib/algorithms/glora.ts";
import * as ia3Algorithm from "./lib/algorithms/ia3.ts";
import * as lohaAlgorithm from "./lib/algorithms/loha.ts";
import * as lokrAlgorithm from "./lib/algorithms/lokr.ts";
import * as loraAlgorithm from "./lib/algorithms/lora.ts";
import * as normAlgorithm from "./lib/algorithms/norm.ts";
import * as oftAlgorithm from "./lib/algorithms/oft.ts";
import * as tloraAlgorithm from "./lib/algorithms/tlora.ts";
import { use } from "./lib/engines/engine.ts";
import { type Ranked, ranked, type Rankless, rankless } from "./lib/layers/bind.ts";

await use("auto");

/**
 * LoRA: ΔW = down · up; on kernels LoCon, with a Tucker core if asked.
 *
 * @example
 * ```ts
 * import { lora, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const conv = tf.layers.conv2d({ filters: 128, kernelSize: 3, inputShape: [32, 32, 64] });
 * tf.sequential({ layers: [conv] });
 * const attached = lora.conv(conv, 8, { alpha: 4 });
 * assert.is(attached.cost().parameters, 8 * (9 * 64 + 128));
 * attached.detach();
 *
 * const down = tf.tensor([[1], [2]]), up = tf.tensor([[3, 4]]);
 * assert.equal(lora.delta({ down, up }).arraySync(), [[3, 4], [6, 8]]);
 * ```
 */
export const lora: Ranked<loraAlgorithm.Factors> = ranked("lora", loraAlgorithm);
/**
 * LoHa: ΔW = (down1 · up1) ⊙ (down2 · up2), of rank up to r².
 *
 * @example
 * ```ts
 * import { loha, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const column = tf.tensor([[1], [2]]), row = tf.tensor([[3, 4]]);
 * const squares = loha.delta({ down1: column, up1: row, down2: column, up2: row });
 * assert.equal(squares.arraySync(), [[9, 16], [36, 64]]);
 * ```
 */
export const loha: Ranked<lohaAlgorithm.Factors> = ranked("loha", lohaAlgorithm);
/**
 * LoKr: ΔW = w1 ⊗ w2, a small matrix times a small kernel, each of which may be low rank.
 *
 * @example
 * ```ts
 * import { lokr, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const w1 = tf.tensor([[1, 2]]), w2 = tf.tensor([[1, 0], [0, 1]]);
 * assert.equal(lokr.delta({ w1, w2 }).arraySync(), [[1, 0, 2, 0], [0, 1, 0, 2]]);
 * ```
 */
export const lokr: Ranked<lokrAlgorithm.Factors> = ranked("lokr", lokrAlgorithm);
/**
 * (IA)^3: ΔW = W ⊙ v, one number for each output channel, or for each input channel.
 *
 * @example
 * ```ts
 * import { ia3, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const W = tf.tensor([[1, 2], [3, 4]]), vector = tf.tensor([[1, -1]]);
 * assert.equal(ia3.delta({ vector }, W).arraySync(), [[1, -2], [3, -4]]);
 * ```
 */
export const ia3: Rankless<ia3Algorithm.Factors> = rankless("ia3", ia3Algorithm);
/**
 * DyLoRA: LoRA whose first ranks are useful without the rest; `truncate` gives any smaller rank.
 *
 * @example
 * ```ts
 * import { dylora } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const adapter = dylora.create([3, 3, 16, 32], 8, { block: 2 });
 * assert.is(dylora.truncate(adapter, 4).factors.up?.shape[0], 4);
 * ```
 */
export const dylora: Ranked<dyloraAlgorithm.Factors> & { truncate: typeof truncate } = {
  ...ranked("dylora", dyloraAlgorithm),
  truncate,
};
/**
 * Full: ΔW itself, and Δb where the layer has a bias.
 *
 * @example
 * ```ts
 * import { full, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const dense = tf.layers.dense({ units: 2, inputShape: [3] });
 * tf.sequential({ layers: [dense] });
 * assert.is(full.linear(dense).cost().parameters, 3 * 2 + 2);
 * ```
 */
export const full: Rankless<fullAlgorithm.Factors> = rankless("full", fullAlgorithm);
/**
 * Norm: full for the γ and β of a normalization; the kernel is the vector γ.
 *
 * `norm.model(model)` adapts every normalization of a model and nothing else, `lora.model(model, 8, { norm: true })` both.
 *
 * @example
 * ```ts
 * import { merge, norm, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const gamma = tf.tensor([1, 2]), adapter = norm.create([2], { bias: true });
 * assert.equal(merge(gamma, adapter).arraySync(), [1, 2]);
 * ```
 */
export const norm: Omit<Rankless<normAlgorithm.Factors>, "conv" | "linear"> = rankless(
  "norm",
  normAlgorithm,
);
/**
 * OFT: the output channels rotated in blocks, W′ = W · diag(R₁, …, Rₙ).
 *
 * @example
 * ```ts
 * import { oft, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const W = tf.tensor([[1, 0]]), blocks = tf.tensor([[[0, -1], [0, 0]]]); // a quarter turn, to [[0, −1]]
 * assert.equal(oft.delta({ blocks }, W).arraySync(), [[-1, -1]]);
 * ```
 */
export const oft: Ranked<oftAlgorithm.Factors> = ranked("oft", oftAlgorithm);
/**
 * BOFT: OFTs one after another, each of channels in another order, so that all of them mix.
 *
 * @example
 * ```ts
 * import { boft } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const { factors } = boft.create([3, 3, 16, 32], 4);
 * assert.equal(factors.blocks.shape, [4, 8, 4, 4]); // 4 stages of 8 blocks of 4 × 4
 * ```
 */
export const boft: Ranked<boftAlgorithm.Factors> = ranked("boft", boftAlgorithm);
/**
 * GLoRA: ΔW = A·W + B, one low rank on the input channels and one beside the kernel.
 *
 * @example
 * ```ts
 * import { glora, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const one = tf.tensor([[1]]), two = tf.tensor([[2]]), W = tf.tensor([[1, 3]]);
 * const factors = { downA: one, upA: two, downB: one, upB: tf.tensor([[1, 1]]) };
 * assert.equal(glora.delta(factors, W).arraySync(), [[2 * 1 + 1, 2 * 3 + 1]]);
 * ```
 */
export const glora: Ranked<gloraAlgorithm.Factors> = ranked("glora", gloraAlgorithm);
/**
 * T-LoRA: a LoRA born as singular triplets of the base; `ranksAt` says how many of its ranks a noise level uses.
 *
 * @example
 * ```ts
 * import { tf, tlora } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const base = tf.tensor([[3, 0], [0, 1]]), { factors } = tlora.create([2, 2], 1, { base });
 * assert.equal([...factors.lambda.dataSync()], [3]);
 * assert.is(tlora.ranksAt(500, 1000, 8), 4);
 * ```
 */
export const tlora: Ranked<tloraAlgorithm.Factors> & { ranksAt: typeof tloraAlgorithm.ranksAt } = {
  ...ranked("tlora", tloraAlgorithm),
  ranksAt: tloraAlgorithm.ranksAt,
};

export { fromArguments, toArguments } from "./lib/adapter/arguments.ts";
export { copy, dispose, parameters, scale } from "./lib/adapter/adapter.ts";
export { blockOf, blockWeights } from "./lib/adapter/block.ts";
export { choose, chooseAll } from "./lib/adapter/choose.ts";
export { ways } from "./lib/adapter/ways.ts";
export { conform } from "./lib/adapter/conform.ts";
export { convert } from "./lib/adapter/convert.ts";
export { extract } from "./lib/adapter/extract.ts";
export { extractAll } from "./lib/adapter/extract_all.ts";
export { join } from "./lib/adapter/join.ts";
export { joinAll } from "./lib/adapter/join_all.ts";
export { lowRankForm, truncate } from "./lib/adapter/low_rank.ts";
export { type Cap, cap, capped } from "./lib/adapter/max_norm.ts";
export { delta, merge, mergeBias, unmerge } from "./lib/adapter/merge.ts";
export { modulesOf } from "./lib/adapter/modules.ts";
export { PRESETS } from "./lib/adapter/presets.ts";
export { resize, resizeAll } from "./lib/adapter/resize.ts";
export { pick } from "./lib/adapter/rules.ts";
export { combine, sum } from "./lib/adapter/sum.ts";
export { groupConv2d } from "./lib/layers/group_conv.ts";
export { adaptable } from "./lib/layers/host.ts";
export { adapt, attachAny as attach } from "./lib/layers/model.ts";
export { readPreset } from "./lib/layers/preset.ts";
export { attachedTo } from "./lib/layers/site.ts";
export { adam } from "./lib/training/adam.ts";
export { scheduleDropouts } from "./lib/training/dropouts.ts";
export { ema } from "./lib/training/ema.ts";
export { loraPlus } from "./lib/training/lora_plus.ts";
export { maxNorm } from "./lib/training/max_norm.ts";
export * as schedule from "./lib/training/schedule.ts";
export * as engine from "./lib/engines/engine.ts";
export * as files from "./lib/files/adapters.ts";
export { cure } from "./lib/files/cure.ts";
export { verify } from "./lib/files/verify.ts";
export * as tf from "./lib/tf.ts";

export type { Adapter, AdapterOptions, Dropouts } from "./lib/adapter/adapter.ts";
export type { Arguments, Reader, TrainerSettings } from "./lib/adapter/arguments.ts";
export type { Stored } from "./lib/adapter/bytes.ts";
export type { ChosenWays } from "./lib/adapter/choose.ts";
export type { Choosable, ChooseOptions, Goal, Way } from "./lib/adapter/ways.ts";
export type { FitChoiceOptions, FittedWay, Kernels } from "./lib/adapter/choose_fit.ts";
export type { ExtractAllOptions, ExtractedAll, Pair } from "./lib/adapter/extract_all.ts";
export type {
  Extractable,
  Extracted,
  ExtractOptions,
  Sparse,
} from "./lib/adapter/extract/options.ts";
export type { Fit, Quality } from "./lib/adapter/fit.ts";
export type { Joined, JoinOptions, Named, Slice } from "./lib/adapter/join.ts";
export type { JoinAllOptions } from "./lib/adapter/join_all.ts";
export type { Module } from "./lib/adapter/modules.ts";
export type { Preset, PresetName, PresetSettings } from "./lib/adapter/presets.ts";
export type { Cut } from "./lib/adapter/rank.ts";
export type { ResizeAllOptions, Resized, ResizedAll, ResizeOptions } from "./lib/adapter/resize.ts";
export type { Route } from "./lib/adapter/route.ts";
export type { NetworkSettings, Part, Picked, Settled } from "./lib/adapter/rules.ts";
export type { ModuleSettings } from "./lib/adapter/settings.ts";
export type { Cost } from "./lib/algorithms/algorithm.ts";
export type { AlgorithmName } from "./lib/algorithms/table.ts";
export type { AdapterFile, OpenOptions, SaveOptions } from "./lib/files/adapters.ts";
export type { Cured, CuredLayer, CureOptions } from "./lib/files/cure.ts";
export type { Estimate, Verified, VerifiedLayer, VerifyOptions } from "./lib/files/verify.ts";
export type { Checkpoint, CheckpointFile } from "./lib/files/checkpoint.ts";
export type { CheckpointModule } from "./lib/files/checkpoint_modules.ts";
export type {
  MergedInto,
  MergeIntoOptions,
  MergePart,
  Note,
  UnmergedFrom,
  WriteOptions,
} from "./lib/files/merge_into.ts";
export type { GroupConv2DArgs } from "./lib/layers/group_conv.ts";
export type { AttachedModel, ModelOptions } from "./lib/layers/model.ts";
export type { Where } from "./lib/layers/select.ts";
export type { Attached } from "./lib/layers/site.ts";
export type { DropoutSchedules, ScheduledDropouts } from "./lib/training/dropouts.ts";
export type { Ema } from "./lib/training/ema.ts";
export type { MaxNorm } from "./lib/training/max_norm.ts";
export type { Schedule } from "./lib/training/schedule.ts";
export type { Geometry } from "./lib/tensor/geometry.ts";
