/** The difference of two kernels as an adapter: the nearest there is of an algorithm, or of all of them for its bytes. */
import * as tf from "@tensorflow/tfjs";
import { tidy } from "../tensor/tidy.ts";
import { allocate } from "./allocate.ts";
import { type Difference, differenceOf } from "./extract/difference.ts";
import { extractFull, fullChoices } from "./extract/full.ts";
import { extractIa3, ia3Choices } from "./extract/ia3.ts";
import { extractLoha, lohaChoices } from "./extract/loha.ts";
import { extractLokr, lokrChoices } from "./extract/lokr.ts";
import { extractLora, loraChoices } from "./extract/lora.ts";
import type { Choice, Extractable, Extracted, ExtractOptions } from "./extract/options.ts";
import { energyOf, scoped } from "./matrices.ts";
import { rulesOf } from "./rank.ts";

/** An algorithm's extraction, and what it weighs against the others. */
interface Row {
  extract(d: Difference, options: ExtractOptions): Extracted;
  choices(d: Difference, options: ExtractOptions): Choice[];
}

const ROWS: { readonly [name in Extractable]: Row } = {
  lora: { extract: extractLora, choices: loraChoices },
  lokr: { extract: extractLokr, choices: lokrChoices },
  loha: { extract: extractLoha, choices: lohaChoices },
  ia3: { extract: extractIa3, choices: ia3Choices },
  full: { extract: extractFull, choices: fullChoices },
};

/** Whether two kernels count as one: no number differs by more than `minDiff`, or than torch's `allclose` allows. */
function areSame(
  { energy }: Difference,
  base: tf.Tensor,
  tuned: tf.Tensor,
  { minDiff = 0, lycoris }: ExtractOptions,
): boolean {
  if (minDiff === 0 && !lycoris) return energy === 0;
  const a = base.dataSync(), b = tuned.dataSync();
  return a.every((value, i) => {
    const most = lycoris ? Math.max(minDiff, 1e-8 + 1e-5 * Math.abs(b[i])) : minDiff;
    return Math.abs(value - b[i]) <= most;
  });
}

/** What the options leave to choose from. */
function candidates({ shape }: Difference, options: ExtractOptions): readonly Extractable[] {
  const { algorithm = "lora", among = ["lora", "lokr", "ia3", "full"], whole } = options;
  if (shape.length === 1) return ["full"];
  if (algorithm === "auto") return among;
  return algorithm === "lora" && whole !== "never" ? ["lora", "full"] : [algorithm];
}

/** Every way that the options leave open, for bytes or an error. */
function choicesOf(d: Difference, options: ExtractOptions): Choice[] {
  return candidates(d, options).flatMap((name) => ROWS[name].choices(d, options));
}

/** The way of least error for the bytes, or of fewest bytes for the error. */
function chosen(d: Difference, { bytes, error, ...rest }: ExtractOptions): Choice {
  const choices = choicesOf(d, rest);
  if (bytes !== undefined) return choices[allocate([choices], bytes)[0]];
  const enough = choices.filter(({ loss }) => loss <= (error! ** 2) * d.energy);
  if (enough.length > 0) return enough.reduce((a, b) => b.bytes < a.bytes ? b : a);
  return choices.reduce((a, b) => b.loss < a.loss ? b : a);
}

/**
 * Every way to extract a difference that the options leave open, before it is done: what it takes and what it misses.
 *
 * @returns none where the kernels do not differ; and ‖ΔW‖², which is what nothing at all misses
 */
export function choices(
  base: tf.Tensor,
  tuned: tf.Tensor,
  options: ExtractOptions = {},
): { choices: Choice[]; energy: number } {
  return scoped(() => {
    const d = differenceOf(base, tuned);
    if (areSame(d, base, tuned, options)) return { choices: [], energy: 0 };
    return { choices: choicesOf(d, { ...options, bytes: undefined }), energy: d.energy };
  });
}

/** A difference that is one, by the options. */
function extracted(d: Difference, options: ExtractOptions): Extracted {
  const { algorithm = "lora", bytes, error } = options;
  rulesOf(options);
  if (d.shape.length === 1) return extractFull(d);
  const open = bytes !== undefined || (error !== undefined && algorithm !== "lora");
  if (algorithm === "auto" && !open) {
    throw new TypeError(
      "Cannot extract the best of all algorithms as more bytes are always better: " +
        "current bytes are undefined, pass { bytes } or { error }",
    );
  }
  if (!open) return ROWS[algorithm as Extractable].extract(d, options);
  const { algorithm: name, options: own } = chosen(d, options);
  return ROWS[name].extract(d, { ...options, error: undefined, ...own });
}

/** With Δb in a whole difference, and its length beside any other adapter. */
function withBias(
  found: Extracted,
  { base, tuned }: NonNullable<ExtractOptions["bias"]>,
): Extracted {
  if (!base && !tuned) return found;
  const { adapter } = found;
  const bias = tf.tidy(() => tf.sub(tuned ?? tf.zerosLike(base!), base ?? tf.zerosLike(tuned!)));
  if (adapter.algorithm === "full" || adapter.algorithm === "norm") {
    return { ...found, adapter: { ...adapter, factors: { ...adapter.factors, bias } } };
  }
  return { ...found, missedBias: Math.sqrt(energyOf(bias)) };
}

/**
 * ΔW = tuned − base as an adapter, and how near that is.
 *
 * - `lora`, the default: the largest singular triplets, as many as the rules of {@link Cut} say, all if none does; or with
 *   a core; or the whole difference where that is no larger.
 * - `lokr`: the nearest Kronecker product, its large part cut to a `rank` if one is given.
 * - `loha`: alternating least squares from several starts; the problem is not convex, so it is the best found.
 * - `ia3`: v_c = ⟨ΔW_c, W_c⟩ / ⟨W_c, W_c⟩.
 * - `full`, and whatever is asked of a normalization's vector `[C]`: the difference itself.
 * - `auto`: the one of least error for `bytes`, or of fewest bytes for `error`.
 *
 * @param base the kernel before training, `[...k, I/G, O]`
 * @param tuned the kernel after it
 * @returns an adapter with tensors of its own, or undefined where the kernels do not differ
 * @throws {TypeError} for kernels of two shapes, or `auto` without a limit
 * @throws {RangeError} for numbers that are not finite, a value that a rule cannot have, or bytes below the least
 *
 * @example
 * ```ts
 * import { delta, extract, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const base = tf.zeros([2, 3]), tuned = tf.tensor([[3, 0, 0], [0, 4, 0]]);
 * const { adapter, error, energy } = extract(base, tuned, { rank: 1 })!;
 * assert.equal(delta(adapter).arraySync(), [[0, 0, 0], [0, 4, 0]]);
 * assert.ok(Math.abs(error - 3 / 5) < 1e-6 && Math.abs(energy - 16 / 25) < 1e-6);
 * assert.is(extract(base, base), undefined);
 * ```
 */
export function extract(
  base: tf.Tensor,
  tuned: tf.Tensor,
  options: ExtractOptions = {},
): Extracted | undefined {
  let found: Extracted | undefined;
  tidy(() => { // keeps the factors, without a look at the numbers beside them
    const d = differenceOf(base, tuned);
    if (areSame(d, base, tuned, options)) return;
    found = extracted(d, options);
    if (options.bias) found = withBias(found, options.bias);
    return found.adapter.factors;
  });
  return found;
}
