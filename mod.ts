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
