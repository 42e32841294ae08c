/** The nearest LoRA to a difference: its largest singular triplets, or a Tucker form of them. */
import * as tf from "@tensorflow/tfjs";
import { matrix } from "../../tensor/matrix.ts";
import { inputs, isWide, outputs, size, space } from "../../tensor/shape.ts";
import type { Svd } from "../../tensor/svd.ts";
import { tucker as product } from "../../tensor/tucker.ts";
import { WIDTH } from "../bytes.ts";
import { fit } from "../fit.ts";
import { flat, tensorOf, upload } from "../matrices.ts";
import { plain } from "../plain.ts";
import { type Cut, rankBy } from "../rank.ts";
import { pairOf } from "../spectrum.ts";
import { spectrumBy } from "../spectrum_by.ts";
import { type Difference, errorOf } from "./difference.ts";
import { extractFull } from "./full.ts";
import type { Choice, Extracted, ExtractOptions } from "./options.ts";
import { quantileOf, sparseOf } from "./sparse.ts";
import { secondStage, tuckerOf } from "./tucker.ts";

/** Whether the difference itself is given instead of factors of a rank. */
function isWhole({ shape }: Difference, rank: number, options: ExtractOptions): boolean {
  const { tucker = false, lycoris = false } = options;
  const { whole = !lycoris ? "smaller" : tucker && isWide(shape) ? "never" : "half" } = options;
  if (whole !== "smaller") return whole === "half" && rank >= outputs(shape) / 2;
  const I = inputs(shape), O = outputs(shape), k = size(space(shape));
  const factors = tucker && isWide(shape) ? I + k * rank + O : k * I + O;
  return rank * factors >= size(shape);
}

/** `down` and `up` clipped to a quantile of all their numbers, the singular values on the side of `up`, as kohya does. */
function clamped({ u, s, v }: Svd, quantile: number): { down: tf.Tensor; up: tf.Tensor } {
  const r = s.length, side = v.data.map((value, i) => value * s[i % r]);
  const all = new Float64Array(u.data.length + side.length);
  all.set(u.data);
  all.set(side, u.data.length);
  const limit = quantileOf(all, quantile);
  const clip = (rows: number, data: Float64Array) =>
    tf.clipByValue(upload(matrix(rows, r, data)), -limit, limit);
  return { down: clip(u.rows, u.data), up: tf.transpose(clip(v.rows, side)) };
}

/**
 * The LoRA of least error for its rank, or the whole difference.
 *
 * Under `tucker` the least error that alternating least squares finds for a core of that rank.
 */
export function extractLora(d: Difference, options: ExtractOptions = {}): Extracted {
  const { shape, tensor, energy } = d, k = space(shape);
  const { tucker = false, lycoris = false, clamp, sparsity } = options;
  const least = Math.min(inputs(shape), outputs(shape)), cored = tucker && isWide(shape);
  const most = Math.min(options.rank ?? Infinity, lycoris || cored ? least : Infinity);
  const cut: Cut = most < Infinity ? { ...options, rank: most } : options;

  const found = spectrumBy(tensor, energy, cut), rank = rankBy(found.s, cut, found.energy);
  if (isWhole(d, rank, options)) return { ...extractFull(d), s: found.s };
  const triplets = found.triplets(rank);
  const factors = cored
    ? (lycoris ? secondStage : tuckerOf)(d, triplets)
    : factorsOf(triplets, [...k, inputs(shape), rank], clamp);
  const { core } = factors;
  const built = core
    ? product(core, factors.down, factors.up)
    : tf.reshape(tf.matMul(flat(factors.down), factors.up as tf.Tensor2D), [...shape]);
  const measured = errorOf(d, built);
  const sparse = sparsity === undefined ? {} : { sparse: sparseOf(d, built, sparsity) };
  const adapter = plain("lora", shape, rank, factors);
  return { ...fit(adapter, Math.sqrt(energy), measured), s: found.s, ...sparse };
}

function factorsOf(
  triplets: Svd,
  shape: number[],
  clamp?: number,
): { down: tf.Tensor; up: tf.Tensor; core?: tf.Tensor } {
  if (clamp !== undefined) {
    const { down, up } = clamped(triplets, clamp);
    return { down: tf.reshape(down, shape), up };
  }
  const { down, up } = pairOf(triplets);
  return { down: tensorOf(down, shape), up: upload(up) };
}

/** The largest rank that is weighed against others: beyond it the search is slow. */
const MOST = 128;

/** LoRAs of every rank up to the largest asked for, without cores. */
export function loraChoices(d: Difference, options: ExtractOptions): Choice[] {
  const { shape, tensor, energy } = d, width = WIDTH[options.dtype ?? "f32"];
  const rows = size(shape) / outputs(shape), each = width * (rows + outputs(shape));
  const most = Math.min(options.rank ?? Infinity, MOST, rows, outputs(shape));
  const found = spectrumBy(tensor, energy, { rank: most });
  return Array.from({ length: Math.min(most, found.s.length) }, (_, i) => ({
    algorithm: "lora",
    options: { rank: i + 1, whole: "never" },
    bytes: (i + 1) * each + width,
    loss: energy * found.error(i + 1) ** 2,
  }));
}
