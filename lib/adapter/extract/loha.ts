/**
 * A LoHa near a difference, by alternating least squares.
 *
 * ΔW ≈ (P₁Q₁) ⊙ (P₂Q₂) has no closed form, but with three of the factors held the fourth is a linear least-squares
 * problem, each of its rows by itself. The error falls with every factor solved for, to the bottom of the valley
 * that a start lies in; so several starts are tried, and the error told is measured.
 */
import * as tf from "@tensorflow/tfjs";
import type * as loha from "../../algorithms/loha.ts";
import { type Matrix, matrix, transpose } from "../../tensor/matrix.ts";
import { normal, subseed } from "../../tensor/random.ts";
import { outputs, size } from "../../tensor/shape.ts";
import { WIDTH } from "../bytes.ts";
import { fit } from "../fit.ts";
import { energyOf, flat, matrixOf, scoped, tensorOf, upload } from "../matrices.ts";
import { plain } from "../plain.ts";
import { pairOf } from "../spectrum.ts";
import { spectrumBy } from "../spectrum_by.ts";
import { type Difference, errorOf } from "./difference.ts";
import type { Choice, Extracted, ExtractOptions } from "./options.ts";

/** One of the two products: `down` `[k·I/G, r]`, `up` transposed `[O, r]`. */
interface Half {
  p: Matrix;
  q: Matrix;
}

/** x_a · x_b for a <= b of every row: `[n, r]` → `[n, r(r + 1)/2]`. */
function products({ rows, columns: r, data }: Matrix): Matrix {
  const width = r * (r + 1) / 2, all = matrix(rows, width);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let a = 0; a < r; a++) {
      for (let b = a; b < r; b++) all.data[at++] = data[row * r + a] * data[row * r + b];
    }
  }
  return all;
}

/** Of the diagonal of normal equations what is added to it: they come from the engine in float32. */
const RIDGE = 1e-7;

/**
 * Solves a symmetric r×r system for every row, by Cholesky's LLᵀ.
 *
 * @param systems upper halves, `[m, r(r + 1)/2]`
 * @param targets `[m, r]`
 */
function solved(systems: Matrix, targets: Matrix): Matrix {
  const { rows, columns: r } = targets, x = matrix(rows, r);
  const L = new Float64Array(r * r), y = new Float64Array(r);
  for (let row = 0; row < rows; row++) {
    let trace = 0, at = row * systems.columns;
    for (let a = 0; a < r; a++) {
      trace += systems.data[at];
      for (let b = a; b < r; b++) L[b * r + a] = systems.data[at++];
    }
    const floor = RIDGE * trace / r;
    for (let j = 0; j < r; j++) {
      let pivot = L[j * r + j] + floor;
      for (let k = 0; k < j; k++) pivot -= L[j * r + k] ** 2;
      L[j * r + j] = Math.sqrt(Math.max(pivot, floor)) || 1;
      for (let i = j + 1; i < r; i++) {
        let sum = L[i * r + j];
        for (let k = 0; k < j; k++) sum -= L[i * r + k] * L[j * r + k];
        L[i * r + j] = sum / L[j * r + j];
      }
    }
    for (let i = 0; i < r; i++) {
      let sum = targets.data[row * r + i];
      for (let k = 0; k < i; k++) sum -= L[i * r + k] * y[k];
      y[i] = sum / L[i * r + i];
    }
    for (let i = r - 1; i >= 0; i--) {
      let sum = y[i];
      for (let k = i + 1; k < r; k++) sum -= L[k * r + i] * x.data[row * r + k];
      x.data[row * r + i] = sum / L[i * r + i];
    }
  }
  return x;
}

/** W = P Qᵀ. */
const build = ({ p, q }: Half) => tf.matMul(upload(p), upload(q), false, true);

/** One half solved for against the other: its `down`, then its `up`. */
function improved(d: tf.Tensor2D, half: Half, other: Half): Half {
  return scoped(() => {
    const W = build(other),
      square = tf.mul<tf.Tensor2D>(W, W),
      weighted = tf.mul<tf.Tensor2D>(d, W);
    const solve = (x: Matrix, turned: boolean) =>
      solved(
        matrixOf(tf.matMul(square, upload(products(x)), turned)),
        matrixOf(tf.matMul(weighted, upload(x), turned)),
      );
    const p = solve(half.q, false);
    return { p, q: solve(p, true) };
  });
}

/** ‖ΔW − ΔW′‖². */
function left(d: tf.Tensor2D, [one, two]: Half[]): number {
  return scoped(() => energyOf(tf.sub(d, tf.mul(build(one), build(two)))));
}

/** The four factors of one length, as which they compute the same. */
function balanced(halves: Half[]): Half[] {
  const factors = halves.flatMap(({ p, q }) => [p, q]);
  const lengths = factors.map(({ data }) => Math.sqrt(data.reduce((sum, x) => sum + x * x, 0)));
  const mean = Math.sqrt(Math.sqrt(lengths.reduce((product, length) => product * length)));
  if (!(mean > 0)) return halves;
  const [a, b, c, e] = factors.map((factor, i) => ({
    ...factor,
    data: factor.data.map((value) => value * mean / lengths[i]),
  }));
  return [{ p: a, q: b }, { p: c, q: e }];
}

/** Both halves, and ‖ΔW − ΔW′‖². */
interface State {
  halves: Half[];
  left: number;
}

/** Of every factor the way from one state to the next, and so much further. */
function beyond(from: Half[], to: Half[], share: number): Half[] {
  const on = (a: Matrix, b: Matrix) => ({
    ...b,
    data: b.data.map((value, i) => value + share * (value - a.data[i])),
  });
  return to.map(({ p, q }, i) => ({ p: on(from[i].p, p), q: on(from[i].q, q) }));
}

/** A sweep that takes less than this share of what is left is the last. */
const ENOUGH = 1e-4;

/**
 * Sweeps until one takes next to nothing, or so many.
 *
 * In a long flat valley sweep after sweep goes the same way; going further each time, while that helps, shortens it.
 */
function swept(d: tf.Tensor2D, start: State, sweeps: number): State {
  let state = start, stride = 1;
  for (let sweep = 0; sweep < sweeps; sweep++) {
    const [one, two] = state.halves, first = improved(d, one, two);
    const halves = balanced([first, improved(d, two, first)]),
      far = beyond(state.halves, halves, stride);
    const near = { halves, left: left(d, halves) }, leap = { halves: far, left: left(d, far) };
    const next = leap.left < near.left ? leap : near;
    stride = next === leap ? 1.5 * stride : Math.max(1, stride / 2);
    if (!(next.left < state.left)) break;
    const last = next.left > (1 - ENOUGH) * state.left;
    state = next;
    if (last) break;
  }
  return state;
}

/**
 * Where the search begins: the best LoRA times ones, the best LoRAs of sign(ΔW)√|ΔW| and √|ΔW|, and random factors.
 *
 * Of the ones only a column is needed; the others are small random numbers, which the sweeps make use of.
 */
function* starts(
  { shape, tensor }: Difference,
  rank: number,
  { restarts = 2, seed = 0 }: ExtractOptions,
): Generator<Half[]> {
  const O = outputs(shape), m = size(shape) / O;
  const random = (rows: number, std: number, name: string) =>
    matrix(rows, rank, normal([rows, rank], std, subseed(seed, name)));
  const nearest = (kernel: tf.Tensor) =>
    scoped((): Half => {
      const found = spectrumBy(kernel, energyOf(kernel), { rank });
      const { down: p, up } = pairOf(found.triplets(rank));
      return { p, q: transpose(up) };
    });
  const fits = rank <= Math.min(m, O);
  if (fits) {
    const ones = (rows: number, name: string) => {
      const x = random(rows, 0.1, name);
      for (let i = 0; i < rows; i++) x.data[i * rank] = 1;
      return x;
    };
    yield [nearest(tensor), { p: ones(m, "down"), q: ones(O, "up") }];
    const root = tf.tidy(() => tf.sqrt(tf.abs(tensor)));
    yield [nearest(tf.mul(tf.sign(tensor), root)), nearest(root)];
  }
  for (let i = 0; i < (fits ? restarts : Math.max(1, restarts)); i++) {
    const half = (name: string) => ({
      p: random(m, 1, `${name}p${i}`),
      q: random(O, 1, `${name}q${i}`),
    });
    yield [half("one"), half("two")];
  }
}

/** Sweeps that every start is given, before only the best goes on. */
const TRIAL = 10;

/** The best LoHa of a rank that is found from the starts, with its error. */
export function extractLoha(d: Difference, options: ExtractOptions = {}): Extracted {
  const { rank = 4, sweeps = 60 } = options, { shape, tensor, energy } = d;
  const d2 = flat(tensor);
  const tried = Array.from(
    starts(d, rank, options),
    (halves) => swept(d2, { halves: balanced(halves), left: Infinity }, Math.min(TRIAL, sweeps)),
  );
  const best = tried.reduce((a, b) => b.left < a.left ? b : a);
  const { halves: [one, two] } = swept(d2, best, sweeps - TRIAL);
  const down = [...shape.slice(0, -1), rank];
  const factors: loha.Factors = {
    down1: tensorOf(one.p, down),
    up1: upload(transpose(one.q)),
    down2: tensorOf(two.p, down),
    up2: upload(transpose(two.q)),
  };
  const error = errorOf(d, tf.reshape(tf.mul(build(one), build(two)), [...shape]));
  return fit(plain("loha", shape, rank, factors), Math.sqrt(energy), error);
}

/** LoHas of ranks 1, 2, 4, … up to the one asked for, each of which has to be found. */
export function lohaChoices(d: Difference, options: ExtractOptions): Choice[] {
  const width = WIDTH[options.dtype ?? "f32"], { shape, energy } = d;
  const most = options.rank ?? 8, each = 2 * (size(shape) / outputs(shape) + outputs(shape));
  const { restarts, sweeps, seed } = options;
  const ranks = Array.from({ length: 1 + Math.floor(Math.log2(most)) }, (_, i) => 2 ** i);
  return ranks.map((rank) => {
    const own = { rank, restarts, sweeps, seed };
    const error = scoped(() => extractLoha(d, own).error);
    return {
      algorithm: "loha",
      options: own,
      bytes: width * (rank * each + 1),
      loss: energy * error ** 2,
    };
  });
}
