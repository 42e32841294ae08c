/** Several adapters of a kernel as one whole difference, and the smaller of that and a LoRA. */
import * as tf from "@tensorflow/tfjs";
import { rowOf } from "../algorithms/table.ts";
import { outputs, size } from "../tensor/shape.ts";
import { tidy } from "../tensor/tidy.ts";
import { type Adapter, dispose, parameters } from "./adapter.ts";
import { conform } from "./conform.ts";
import {
  commonShape,
  differenceOf,
  join,
  type JoinOptions,
  type Named,
  sourcesOf,
} from "./join.ts";
import { delta } from "./merge.ts";
import { plain } from "./plain.ts";

/**
 * Σ s_j · scale_j · ΔW_j and Σ s_j · Δb_j as one `full` adapter, or `norm` where the sources are: exact for every
 * algorithm, those that need the base by their difference from it at their strength.
 *
 * @returns a value with tensors of its own
 * @throws {TypeError} for sources of different kernels, or one that needs the base and has none
 *
 * @example
 * ```ts
 * import { delta, full, ia3, sum, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const base = tf.tensor([[1, 2], [3, 4]]);
 * const scaled = { ...ia3.create([2, 2]), factors: { vector: tf.tensor([[1, -1]]) } };
 * const whole = sum([scaled, full.create([2, 2])], { strengths: [0.5], base });
 * assert.equal(delta(whole).arraySync(), [[0.5, -1], [1.5, -2]]);
 * ```
 */
export function sum(
  adapters: Named<Adapter>,
  { strengths = {}, base }: JoinOptions = {},
): Adapter {
  const sources = sourcesOf(adapters, strengths), shape = commonShape(sources, base);
  const factors = tidy(() => {
    const fitted = sources.map((source) => ({
      ...source,
      adapter: conform(source.adapter, shape),
    }));
    const add = (tensors: tf.Tensor[]) => tensors.reduce((sum, next) => tf.add(sum, next));
    const differences = fitted.map(({ name, adapter, strength }) =>
      rowOf(adapter.algorithm).relative || adapter.dora
        ? differenceOf(name, adapter, strength, base)
        : tf.mul(delta(adapter), strength)
    );
    const biases = fitted.flatMap(({ adapter: { factors: { bias } }, strength }) =>
      bias ? [tf.mul(bias, strength)] : []
    );
    return { difference: add(differences), ...(biases.length > 0 && { bias: add(biases) }) };
  });
  const norm = sources.every(({ adapter }) => adapter.algorithm === "norm");
  return plain(norm ? "norm" : "full", shape, 0, factors);
}

/**
 * The smaller exact one of {@link join} and {@link sum}: a LoRA while its ranks are fewer numbers than the kernel,
 * the whole difference beyond, and wherever there is a bias or a normalization.
 *
 * @example
 * ```ts
 * import { combine, lora } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const one = lora.create([8, 12], 2), two = lora.create([8, 12], 3);
 * assert.is(combine([one, one]).algorithm, "lora");
 * assert.is(combine([one, two]).algorithm, "full"); // 5 · (8 + 12) is more than 8 · 12
 * ```
 */
export function combine(adapters: Named<Adapter>, options: JoinOptions = {}): Adapter {
  const sources = Object.values(adapters);
  const pair = sources.every(({ algorithm, factors }) => !factors.bias && algorithm !== "norm");
  if (!pair) return sum(adapters, options);
  const joined = join(adapters, options);
  if (parameters(joined) < size(joined.shape.slice(0, -1)) * outputs(joined.shape)) return joined;
  dispose(joined);
  return sum(adapters, options);
}
