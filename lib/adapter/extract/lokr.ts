/**
 * The nearest LoKr to a difference: w1 ⊗ w2 in closed form, then w2 of low rank.
 *
 * Van Loan & Pitsianis, "Approximation with Kronecker products", 1993: with every block of ΔW that an element of w1
 * multiplies in a row, w1 ⊗ w2 is the outer product of all of w1 with all of w2, and its largest singular triplet the
 * nearest one.
 */
import * as tf from "@tensorflow/tfjs";
import type * as lokr from "../../algorithms/lokr.ts";
import * as lora from "../../algorithms/lora.ts";
import { factorPair, kronecker } from "../../tensor/kronecker.ts";
import { type Matrix, matrix, multiply } from "../../tensor/matrix.ts";
import { inputs, outputs, type Shape, size, space } from "../../tensor/shape.ts";
import { WIDTH } from "../bytes.ts";
import { fit } from "../fit.ts";
import { matrixOf, scoped, tensorOf, upload } from "../matrices.ts";
import { plain } from "../plain.ts";
import { pairOf, type Spectrum } from "../spectrum.ts";
import { spectrumBy } from "../spectrum_by.ts";
import { type Difference, errorOf } from "./difference.ts";
import type { Choice, Extracted, ExtractOptions } from "./options.ts";

/** How a kernel is split: w1 `[im, om]`, w2 `[...k, ik, ok]`. */
interface Split {
  factor: number;
  small: Shape;
  large: Shape;
}

/** The split that LyCORIS makes with a factor. */
function splitOf(shape: Shape, factor: number): Split {
  if (!Number.isInteger(factor) || factor === 0) {
    throw new RangeError(
      `Cannot extract lokr as factor must be a whole number of at least 1, or -1: current factor is ${factor}`,
    );
  }
  const [im, ik] = factorPair(inputs(shape), factor), [om, ok] = factorPair(outputs(shape), factor);
  return { factor, small: [im, om], large: [...space(shape), ik, ok] };
}

/** The factors that people use. */
const FACTORS = [-1, 2, 4, 8, 16, 32];

/** The splits that these factors make, each once, but for that into nothing and all, where there is another. */
function splits(shape: Shape, factor?: number): Split[] {
  if (factor !== undefined) return [splitOf(shape, factor)];
  const different = new Map<string, Split>();
  for (const factor of FACTORS) {
    const split = splitOf(shape, factor), key = split.small.join();
    if (!different.has(key)) different.set(key, split);
  }
  const proper = [...different.values()].filter(({ small }) => size(small) > 1);
  return proper.length > 0 ? proper : [splitOf(shape, -1)];
}

/** The ranks at which LyCORIS takes factors in the place of w2, as far as w2 has as many. */
function mostRanks({ large }: Split): number {
  const lycoris = Math.ceil(Math.max(inputs(large), outputs(large)) / 2) - 1;
  return Math.min(lycoris, size(large) / outputs(large), outputs(large));
}

/** ΔW with a row for each element of w1, `[im·om, k·ik·ok]`. */
function rearranged({ tensor }: Difference, { small: [im, om], large }: Split): tf.Tensor2D {
  return tf.tidy(() => {
    const apart = tf.reshape(tensor, [size(space(large)), im, inputs(large), om, outputs(large)]);
    return tf.reshape(tf.transpose(apart, [1, 3, 0, 2, 4]), [im * om, -1]);
  });
}

const squared = ({ data }: Matrix) => data.reduce((sum, value) => sum + value * value, 0);

/** w2 as a matrix `[k·ik, ok]`, decomposed. */
function partOf({ data }: Matrix, { large }: Split, rank: number): Spectrum {
  const columns = outputs(large), part = matrix(data.length / columns, columns, data);
  return scoped(() => spectrumBy(upload(part), squared(part), { rank }));
}

/** Of ΔW the nearest w1, of length 1, and w2, each as one row; and the blocks of ΔW as rows. */
function nearest(d: Difference, split: Split): { w1: Matrix; w2: Matrix; blocks: tf.Tensor2D } {
  const blocks = rearranged(d, split);
  const { u, s: [σ], v } = spectrumBy(blocks, d.energy, { rank: 1 }).triplets(1);
  return {
    w1: matrix(1, u.rows, u.data),
    w2: matrix(1, v.rows, v.data.map((value) => value * σ)),
    blocks,
  };
}

/** Sweeps of {@link refined}, and the share of ‖ΔW‖² that one must gain for another to follow. */
const SWEEPS = 30, ENOUGH = 1e-6;

/**
 * w1 and a w2 of a rank by turns, from where cutting the nearest w2 leaves them: the best w1 for w2 has
 * ⟨block, w2⟩ / ‖w2‖² for each block of ΔW, the best w2 for a w1 of length 1 is the blocks' sum by w1, cut to the rank.
 */
function refined(d: Difference, split: Split, rank: number) {
  const start = nearest(d, split),
    cutOf = (w2: Matrix) => pairOf(partOf(w2, split, rank).triplets(rank));
  let w1 = start.w1, pair = cutOf(start.w2);
  for (let sweep = 0, held = 0; sweep < SWEEPS; sweep++) {
    const cut = multiply(pair.down, pair.up), row = matrix(1, cut.data.length, cut.data);
    const next = scoped(() => matrixOf(tf.matMul(upload(row), start.blocks, false, true)));
    const square = squared(next), now = square / squared(cut);
    w1 = { ...next, data: next.data.map((value) => value / Math.sqrt(square)) };
    pair = cutOf(scoped(() => matrixOf(tf.matMul(upload(w1), start.blocks))));
    if (!(now - held > ENOUGH * d.energy)) break;
    held = now;
  }
  return { w1, ...pair };
}

/** The factors of a split, of like size: w1 of length 1 takes its share of the other's. */
function factorsOf(d: Difference, split: Split, rank?: number): lokr.Factors {
  const { small, large } = split;
  const scaled = (m: Matrix, f: number) => ({ ...m, data: m.data.map((value) => value * f) });
  if (rank === undefined) {
    const { w1, w2 } = nearest(d, split), share = squared(w2) ** (1 / 4);
    return {
      w1: tensorOf(scaled(w1, share), small),
      w2: tensorOf(scaled(w2, 1 / share), large),
    };
  }
  const { w1, down, up } = refined(d, split, rank), share = squared(up) ** (1 / 6);
  return {
    w1: tensorOf(scaled(w1, share * share), small),
    down2: tensorOf(scaled(down, 1 / share), [...large.slice(0, -1), rank]),
    up2: upload(scaled(up, 1 / share)),
  };
}

/** The largest rank of w2 that is weighed against others. */
const MOST = 64;

/** LoKrs of every split: with w2 whole, and of every rank at which its factors are smaller. */
export function lokrChoices(d: Difference, options: ExtractOptions): Choice[] {
  const width = WIDTH[options.dtype ?? "f32"];
  return splits(d.shape, options.factor).flatMap((split) => {
    const { factor, small, large } = split, most = Math.min(mostRanks(split), MOST);
    const each = size(large) / outputs(large) + outputs(large);
    const choice = (numbers: number, kept: number, rank?: number): Choice => ({
      algorithm: "lokr",
      options: { factor, rank },
      bytes: width * (size(small) + numbers + 1),
      loss: Math.max(0, d.energy - kept),
    });
    const { w2 } = scoped(() => nearest(d, split)), whole = choice(size(large), squared(w2));
    if (most < 1) return [whole];
    let kept = 0;
    const cut = Array.from(partOf(w2, split, most).s.subarray(0, most), (σ, i) => {
      kept += σ * σ;
      return choice((i + 1) * each, kept, i + 1);
    });
    return [...cut.filter(({ bytes }) => bytes < whole.bytes), whole];
  });
}

/** The factor whose LoKr of a rank, or with w2 whole, keeps most of ‖ΔW‖² a byte. */
function bestFactor(d: Difference, rank?: number): number {
  const worth = ({ loss, bytes }: Choice) => (d.energy - loss) / bytes;
  const choices = lokrChoices(d, {}).filter(({ options }) => options.rank === rank);
  if (choices.length === 0) return -1;
  return choices.reduce((best, next) => worth(next) > worth(best) ? next : best).options.factor!;
}

/**
 * The LoKr of least error for its split and rank; without a factor, for the split that keeps most of ‖ΔW‖² a byte.
 *
 * A rank that LyCORIS would not take for the split, or w2 does not have, leaves w2 whole.
 */
export function extractLokr(d: Difference, options: ExtractOptions = {}): Extracted {
  const split = splitOf(d.shape, options.factor ?? bestFactor(d, options.rank));
  const low = options.rank !== undefined && options.rank <= mostRanks(split);
  const factors = factorsOf(d, split, low ? options.rank : undefined);
  const { w1, w2, down2, up2 } = factors;
  const built = tf.tidy(() => kronecker(w1!, w2 ?? lora.delta({ down: down2!, up: up2! })));
  const rank = low ? options.rank! : Math.max(inputs(split.large), outputs(split.large));
  return fit(plain("lokr", d.shape, rank, factors), Math.sqrt(d.energy), errorOf(d, built));
}
