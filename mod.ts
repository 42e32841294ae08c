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
import * as dyloraAlgorithm from "./lib/algorithms/dylora.ts";
import * as ia3Algorithm from "./lib/algorithms/ia3.ts";
import * as lohaAlgorithm from "./lib/algorithms/loha.ts";
import * as lokrAlgorithm from "./lib/algorithms/lokr.ts";
import * as loraAlgorithm from "./lib/algorithms/lora.ts";
import { use } from "./lib/engines/engine.ts";
import { type Ranked, ranked, type Rankless, rankless } from "./lib/layers/bind.ts";

await use("auto");

/** LoRA: ΔW = down · up; on kernels LoCon, with a Tucker core if asked. */
export const lora: Ranked<loraAlgorithm.Factors> = ranked("lora", loraAlgorithm);
/** LoHa: ΔW = (down1 · up1) ⊙ (down2 · up2), of rank up to r². */
export const loha: Ranked<lohaAlgorithm.Factors> = ranked("loha", lohaAlgorithm);
/** LoKr: ΔW = w1 ⊗ w2. */
export const lokr: Ranked<lokrAlgorithm.Factors> = ranked("lokr", lokrAlgorithm);
/** (IA)^3: ΔW = W ⊙ v. */
export const ia3: Rankless<ia3Algorithm.Factors> = rankless("ia3", ia3Algorithm);
/** DyLoRA: LoRA whose first ranks are useful without the rest; `truncate` gives any smaller rank. */
export const dylora: Ranked<dyloraAlgorithm.Factors> & { truncate: typeof truncate } = {
  ...ranked("dylora", dyloraAlgorithm),
  truncate,
};

export { copy, dispose, parameters, scale } from "./lib/adapter/adapter.ts";
export { conform } from "./lib/adapter/conform.ts";
export { lowRankForm, truncate } from "./lib/adapter/low_rank.ts";
export { delta, merge, unmerge } from "./lib/adapter/merge.ts";
export { attachAny as attach } from "./lib/layers/model.ts";
export { attachedTo } from "./lib/layers/site.ts";
export * as engine from "./lib/engines/engine.ts";
export * as files from "./lib/files/adapters.ts";
export * as tf from "./lib/tf.ts";

export type { Adapter, AdapterOptions } from "./lib/adapter/adapter.ts";
export type { Route } from "./lib/adapter/route.ts";
export type { Cost } from "./lib/algorithms/algorithm.ts";
export type { AlgorithmName } from "./lib/algorithms/table.ts";
export type { AdapterFile, SaveOptions } from "./lib/files/adapters.ts";
export type { AttachedModel, ModelOptions } from "./lib/layers/model.ts";
export type { Attached } from "./lib/layers/site.ts";
export type { Geometry } from "./lib/tensor/geometry.ts";
