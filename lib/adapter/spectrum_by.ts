/** The spectrum of a kernel as far as rules of a rank need it, with the rank that all of it would give. */
import * as tf from "@tensorflow/tfjs";
import { eigenvalues } from "../tensor/eigen.ts";
import { eigenvalues32 } from "../tensor/eigen32.ts";
import { addProduct, type Matrix, matrix, rows, transpose } from "../tensor/matrix.ts";
import { outputs } from "../tensor/shape.ts";
import { type Svd, svd } from "../tensor/svd.ts";
import { leading, widthFor } from "./leading.ts";
import { flat, matrixOf, scoped } from "./matrices.ts";
import { type Cut, needsAll, rankWithin, rulesOf } from "./rank.ts";
import { complete, firstOf, type Spectrum, spectrumOf } from "./spectrum.ts";

/** Kernels of fewer numbers are decomposed in float64 at once. */
const LARGE = 2 ** 15;

/** How many triplets are sought first where a rule tells the rank, how many times more then, and up to what share of all. */
const FIRST = 48, MORE = 3, SHARE = 1 / 8;

/**
 * What AᵀA and its eigenvalues lose to rounding, in units of it and of σ₁², in one precision throughout; and where only
 * the products of {@link RUN} rows are float32. Up to 6.3 and up to 0.21 were measured, on oneDNN and wasm.
 */
const ROUNDING = 16, LESS = 1;

/**
 * The spectrum of a kernel as one matrix. Where a rank is told, its leading triplets; for a rule leading ones, more again
 * until it needs no more; and all singular values where that becomes many, or the rule sums all of them.
 *
 * What is found comes with how far off it may be, from residuals or rounding. Where another rank lies within that, more is
 * found, at last all singular values in float64: the rank is that of the exact ones.
 *
 * @param kernel read again for the triplets of a rank
 * @param energy ‖kernel‖²
 */
export function spectrumBy(kernel: tf.Tensor, energy: number, cut: Cut): Spectrum {
  const { rank, ...rules } = cut, open = rulesOf(rules).length > 0;
  const columns = outputs(kernel.shape), short = Math.min(columns, kernel.size / columns);
  const isFew = (count: number) => kernel.size >= LARGE && 2 * widthFor(count) <= short;
  const use = <T>(make: (a: tf.Tensor2D) => T) => scoped(() => make(flat(kernel)));

  if (open && kernel.size >= LARGE) {
    const most = rank ?? Infinity, few = needsAll(cut) ? 0 : Math.floor(SHARE * short);
    let count = Math.min(FIRST, most, few);
    for (; 0 < count && count <= few; count = Math.min(MORE * count, most)) {
      const found = use((a) => leading(a, count, energy)), known = rankWithin(found, rules, energy);
      if (count === most || (known ?? count) < count) return partial(found, energy);
    }
    for (const values of [roughValues, finerValues, exactValues]) {
      const found = use(values);
      if (rankWithin(found, cut) === undefined) continue;
      return complete(
        found.s,
        (rank) =>
          use((a) => isFew(rank) ? leading(a, rank, energy) : firstOf(svd(matrixOf(a)), rank)),
      );
    }
  }
  if (!open && rank !== undefined && isFew(rank)) {
    return partial(use((a) => leading(a, rank, energy)), energy);
  }
  return spectrumOf(svd(use(matrixOf)));
}

/** Singular values, and how far off each may be. */
interface Values {
  s: Float64Array;
  within: Float64Array;
}

/** A unit of rounding. */
const SINGLE = 2 ** -24, DOUBLE = 2 ** -53;

/** The roots of eigenvalues that rounding has moved by such a share of the largest at the most. */
function rootsOf(values: Float64Array, rounding: number): Values {
  const s = values.map((value) => Math.sqrt(Math.max(0, value))), off = rounding * values[0];
  return { s, within: s.map((σ) => Math.min(Math.sqrt(off), off / (2 * σ))) };
}

/** `AAᵀ` of a wide matrix, `AᵀA` of a tall one, on the engine. */
function products(a: tf.Tensor2D, wide: boolean): Float32Array {
  return tf.matMul(a, a, !wide, wide).dataSync() as Float32Array;
}

/** All singular values, from the products of the short side, `AᵀA`, in float32. */
function roughValues(a: tf.Tensor2D): Values {
  const short = Math.min(...a.shape), gram = products(a, a.shape[0] < a.shape[1]);
  return rootsOf(eigenvalues32(gram, short), ROUNDING * SINGLE);
}

/** How many rows of the long side are multiplied at a time. */
const RUN = 512;

/** The same with what the products of runs sum to in float64. */
function finerValues(a: tf.Tensor2D): Values {
  const gram = summed(a, (gram, part, wide) => {
    const values = products(part, wide);
    for (let i = 0; i < values.length; i++) gram.data[i] += values[i];
  });
  return rootsOf(eigenvalues(gram), LESS * SINGLE);
}

/** The same with all of it in float64. */
function exactValues(a: tf.Tensor2D): Values {
  const gram = summed(a, (gram, part, wide) => {
    const own = matrixOf(part);
    addOwn(gram, wide ? own : transpose(own));
  });
  return rootsOf(eigenvalues(gram), ROUNDING * DOUBLE);
}

/** The sum over runs of the long side of what `add` makes of each, for the short side. */
function summed(
  a: tf.Tensor2D,
  add: (gram: Matrix, part: tf.Tensor2D, wide: boolean) => void,
): Matrix {
  const wide = a.shape[0] < a.shape[1], [long, short] = wide ? [a.shape[1], a.shape[0]] : a.shape;
  const gram = matrix(short, short);
  for (let from = 0; from < long; from += RUN) {
    const count = Math.min(RUN, long - from);
    scoped(() => {
      const part = wide
        ? tf.slice(a, [0, from], [short, count])
        : tf.slice(a, [from, 0], [count, short]);
      add(gram, part, wide);
    });
  }
  return gram;
}

/** `G ← G + X Xᵀ`, below the diagonal, where it is read. */
function addOwn(gram: Matrix, x: Matrix): void {
  const strip = 64;
  for (let top = 0; top < x.rows; top += strip) {
    const bottom = Math.min(top + strip, x.rows), target = rows(gram, top, bottom);
    addProduct({ ...target, columns: bottom }, rows(x, top, bottom), rows(x, 0, bottom), 1);
  }
}

/** What some of the triplets tell. */
function partial(found: Svd, energy: number): Spectrum {
  return {
    s: found.s,
    energy,
    error: (rank) => {
      const kept = found.s.subarray(0, rank).reduce((sum, value) => sum + value * value, 0);
      return Math.sqrt(Math.max(0, energy - kept) / energy);
    },
    triplets: (rank) => firstOf(found, rank),
  };
}
