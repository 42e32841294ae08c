/** The same ΔW at another rank: of every rank the best there is, chosen by a rule or by bytes. */
import * as tf from "@tensorflow/tfjs";
import { isWide, outputs, size } from "../tensor/shape.ts";
import { tidy } from "../tensor/tidy.ts";
import { type Adapter, copy } from "./adapter.ts";
import { allocate } from "./allocate.ts";
import { bytesOf, type Stored, WIDTH } from "./bytes.ts";
import { type Fit, fit, type Quality } from "./fit.ts";
import { hasLowRankForm } from "./low_rank.ts";
import { energyOf, tensorOf, upload } from "./matrices.ts";
import { plain } from "./plain.ts";
import { type Cut, rankBy } from "./rank.ts";
import { pairOf, type Spectrum, spectrum } from "./spectrum.ts";
import { spectrumBy } from "./spectrum_by.ts";

/** What a rank is chosen by. */
export interface ResizeOptions extends Cut {
  /** the largest rank whose tensors, alpha included, take at most so many bytes in a file */
  bytes?: number;
  /** how that file stores numbers; default "f32" */
  dtype?: Stored;
}

/** A resized adapter. */
export interface Resized extends Fit {
  /** singular values of the ΔW it was made from, descending; of a large whole difference those that were needed */
  readonly s: Float64Array;
}

/** The LoRA of an adapter's spectrum at a rank, with the adapter's magnitude if it has one. */
function cut(adapter: Adapter, { triplets }: Spectrum, rank: number): Adapter {
  const { shape, dora } = adapter, { magnitude } = adapter.factors;
  return tidy(() => {
    const { down, up } = pairOf(triplets(rank));
    const factors = {
      down: tensorOf(down, [...shape.slice(0, -1), rank]),
      up: upload(up),
      ...(magnitude && { magnitude: tf.clone(magnitude) }),
    };
    return { ...plain("lora", shape, rank, factors), dora };
  });
}

/** Bytes of the LoRA that a resized adapter is: what it takes at any rank, and what each rank takes. */
function price({ shape, factors: { magnitude } }: Adapter, dtype: Stored) {
  const width = WIDTH[dtype], O = outputs(shape);
  return { least: width * (1 + (magnitude?.size ?? 0)), each: width * (size(shape) / O + O) };
}

/** What an adapter's ΔW is made of; of a whole difference, which may be large, as far as the rules need it. */
function spectrumFor(adapter: Adapter, rules: Cut): Spectrum {
  const { difference } = adapter.factors;
  if (!difference) return spectrum(adapter);
  return spectrumBy(difference, energyOf(difference), rules);
}

/**
 * The LoRA of least ‖ΔW − ΔW′‖ among those of its rank, with scale 1, and its error, told from the singular values dropped.
 *
 * From the factors alone, in float64: LoRA and Tucker cores, DyLoRA, LoHa, and LoKr (from the spectra of its two
 * parts); and a whole difference, as {@link extract} does.
 * Of several rules the smallest rank counts. Under DoRA it is ΔW that is cut, and the magnitude stays.
 *
 * @throws {TypeError} where ΔW depends on the base, as in (IA)^3: extract it instead; for an adapter with a bias
 * @throws {RangeError} for a value that a rule cannot have, or bytes below those of rank 1
 *
 * @example
 * ```ts
 * import { delta, dispose, loha, resize } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const w = loha.create([3, 3, 8, 16], 2); // rank 2² as a LoRA
 * const { adapter, error } = resize(w, { rank: 3 });
 * assert.is(adapter.rank, 3);
 * assert.is(error, 0); // born as ΔW = 0
 * assert.equal(delta(adapter).shape, [3, 3, 8, 16]);
 * dispose(adapter);
 * ```
 */
export function resize(adapter: Adapter, options: ResizeOptions = {}): Resized {
  const { bytes, dtype = "f32", ...rules } = options;
  if (adapter.factors.bias) {
    throw new TypeError(
      `Cannot resize ${adapter.algorithm} as a LoRA has no bias: current adapter has one`,
    );
  }
  const { least, each } = price(adapter, dtype);
  const affordable = bytes === undefined ? Infinity : Math.floor((bytes - least) / each);
  if (affordable < 1) {
    throw new RangeError(
      `Cannot resize ${adapter.algorithm} to ${bytes} bytes as rank 1 takes ${least + each}: ` +
        `current bytes are ${bytes}`,
    );
  }
  const capped = affordable < Infinity
    ? { ...rules, rank: Math.min(affordable, rules.rank ?? Infinity) }
    : rules;
  const found = spectrumFor(adapter, capped), { s, energy } = found;
  const rank = rankBy(s, capped, energy);
  return { ...fit(cut(adapter, found, rank), Math.sqrt(energy), found.error(rank)), s };
}

/** What the ranks of many layers are chosen by. */
export interface ResizeAllOptions extends Cut {
  /** rules for kernels wider than one position; default: the same */
  conv?: Cut;
  /** the most that the tensors of all layers take together in a file; a layer may get rank 0 and be left out */
  bytes?: number;
  /** how that file stores numbers; default "f32" */
  dtype?: Stored;
  /** of `bytes`, what the rest of the file takes: header and metadata; default 0 */
  overhead?: number;
  /** by layer, what an error is measured against when bytes are divided, as ‖W‖ of the base; default 1 for all */
  norms?: ReadonlyMap<string, number>;
}

/** Resized layers. */
export interface ResizedAll {
  /** by layer; one that is left out has none */
  adapters: Map<string, Adapter>;
  /** by layer that was resized, with the rank given */
  report: Map<string, Quality & { rank: number }>;
}

/**
 * Every layer by {@link resize}, or with `bytes` all of them at once: min Σ ‖ΔW − ΔW′‖² for the bytes.
 *
 * A layer's next rank is worth σ² / bytes; the ranks worth most are taken. What has no low-rank form comes along as
 * it is, a copy, and its bytes count.
 *
 * @returns adapters with tensors of their own
 * @throws {RangeError} for a value that a rule cannot have, or bytes below the least
 *
 * @example
 * ```ts
 * import { lora, resizeAll } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const layers = new Map([["conv", lora.create([3, 3, 8, 16], 4)], ["fc", lora.create([8, 4], 4)]]);
 * const { report } = resizeAll(layers, { rank: 2, conv: { rank: 1 } });
 * assert.equal([...report].map(([, { rank }]) => rank), [1, 2]);
 * ```
 */
export function resizeAll(
  adapters: ReadonlyMap<string, Adapter>,
  options: ResizeAllOptions = {},
): ResizedAll {
  const { conv, bytes, dtype = "f32", overhead = 0, norms, ...rules } = options;
  const layers = [...adapters].map(([name, adapter]) => {
    if (!hasLowRankForm({ ...adapter, dora: false })) {
      return { name, adapter, choices: [{ rank: 0, bytes: bytesOf(adapter, dtype), loss: 0 }] };
    }
    const own = isWide(adapter.shape) ? conv ?? rules : rules;
    const found = spectrumFor(adapter, own), { least, each } = price(adapter, dtype);
    const most = rankBy(found.s, own, found.energy);
    const energy = found.energy / (norms?.get(name) ?? 1) ** 2;
    const first = adapter.dora ? 1 : 0; // without its ΔW a magnitude would still change the layer
    const choices = Array.from({ length: most + 1 - first }, (_, i) => {
      const rank = i + first, loss = energy * found.error(rank) ** 2;
      return { rank, bytes: rank === 0 ? 0 : least + rank * each, loss };
    });
    return { name, adapter, found, choices };
  });
  const chosen = bytes === undefined
    ? layers.map(({ choices }) => choices.length - 1)
    : allocate(layers.map(({ choices }) => choices), bytes - overhead);

  const resized: ResizedAll = { adapters: new Map(), report: new Map() };
  layers.forEach(({ name, adapter, found, choices }, i) => {
    if (!found) {
      resized.adapters.set(name, copy(adapter));
      return;
    }
    const { rank } = choices[chosen[i]], error = found.error(rank);
    if (rank > 0) resized.adapters.set(name, cut(adapter, found, rank));
    const norm = Math.sqrt(found.energy);
    resized.report.set(name, { rank, norm, error, energy: 1 - error ** 2 });
  });
  return resized;
}
