/**
 * The singular values of an adapter's ΔW and its best pairs of every rank, from the factors, in float64.
 *
 * ΔW is never built where its factors are smaller: with `down = Q R` and `upᵀ = P S`, `ΔW = Q (R Sᵀ) Pᵀ`, and R Sᵀ is
 * of the rank of the factors.
 */
import type * as tf from "@tensorflow/tfjs";
import type * as lokr from "../algorithms/lokr.ts";
import * as lora from "../algorithms/lora.ts";
import { type Matrix, matrix, multiply, transpose } from "../tensor/matrix.ts";
import { qr } from "../tensor/qr.ts";
import { inputs } from "../tensor/shape.ts";
import { lost, type Svd, svd } from "../tensor/svd.ts";
import { type Adapter, scale } from "./adapter.ts";
import { lowRankForm } from "./low_rank.ts";
import { matrixOf, scoped } from "./matrices.ts";

/** ΔW as a sum of orthogonal matrices of rank 1, the largest first. */
export interface Spectrum {
  /** singular values, descending, as many as are known */
  readonly s: Float64Array;
  /** ‖ΔW‖², of all of them */
  readonly energy: number;
  /** ‖ΔW − ΔW′‖ / ‖ΔW‖ of the best ΔW′ of a rank, 0 where ΔW is 0 */
  error(rank: number): number;
  /** the largest triplets, whose sum is the best ΔW′ of a rank */
  triplets(rank: number): Svd;
}

/** `D · U`, decomposed without building it where it is larger than its factors. */
function decomposed(down: Matrix, up: Matrix): Svd {
  if (down.columns >= Math.min(down.rows, up.columns)) return svd(multiply(down, up));
  const one = qr(down), two = qr(transpose(up));
  const { u, s, v } = svd(multiply(one.r, transpose(two.r)));
  return { u: multiply(one.q, u), s, v: multiply(two.q, v) };
}

/** The first n columns. */
export function firstColumns({ rows, columns, data }: Matrix, n: number): Matrix {
  const first = matrix(rows, n);
  for (let i = 0; i < rows; i++) {
    first.data.set(data.subarray(i * columns, i * columns + n), i * n);
  }
  return first;
}

/** Of a decomposition the first triplets. */
export function firstOf({ u, s, v }: Svd, rank: number): Svd {
  return { u: firstColumns(u, rank), s: s.subarray(0, rank), v: firstColumns(v, rank) };
}

/** Triplets as `down` `[k·I/G, r]` and `up` `[r, O]`, each side with √σ of every σ: of like size, which float16 needs. */
export function pairOf({ u, s, v }: Svd): { down: Matrix; up: Matrix } {
  const roots = s.map(Math.sqrt), r = s.length;
  const rooted = ({ rows, data }: Matrix) =>
    matrix(rows, r, data.map((value, i) => value * roots[i % r]));
  return { down: rooted(u), up: transpose(rooted(v)) };
}

/** What all singular values tell, and the first triplets where they are asked for. */
export function complete(s: Float64Array, triplets: (rank: number) => Svd): Spectrum {
  const energy = s.reduce((sum, value) => sum + value * value, 0);
  return { s, energy, error: (rank) => lost(s, rank), triplets };
}

/** What a whole SVD tells. */
export function spectrumOf(all: Svd): Spectrum {
  return complete(all.s, (rank) => firstOf(all, rank));
}

/** w1 or w2 of a LoKr, decomposed. */
function part(w: tf.Tensor | undefined, pair: lora.Factors): Svd {
  if (w) return svd(matrixOf(w));
  const { down, up } = scoped(() => {
    const { down, up } = lora.lowRank(pair);
    return { down: matrixOf(down), up: matrixOf(up) };
  });
  return decomposed(down, up);
}

/**
 * `w1 ⊗ w2 = Σ_ij σ_i τ_j (u_i ⊗ x_j)(v_i ⊗ y_j)ᵀ`: the decompositions of the two parts, each small, and the products of their
 * singular values sorted.
 */
function lokrSpectrum(factors: lokr.Factors, factor: number): Spectrum {
  const { w1, down1, up1, w2, down2, up2, core2 } = factors;
  const one = part(w1, { down: down1!, up: up1! });
  const two = part(w2, { down: down2!, up: up2!, core: core2 });
  const products = Array.from(
    one.s,
    (σ, i) => Array.from(two.s, (τ, j) => ({ i, j, s: σ * τ * Math.abs(factor) })),
  ).flat().sort((a, b) => b.s - a.s);
  const s = Float64Array.from(products, ({ s }) => s);
  const ik = inputs((w2 ?? down2!).shape);
  const triplets = (n: number): Svd => {
    const taps = two.u.rows / ik, im = one.u.rows, om = one.v.rows, ok = two.v.rows;
    const u = matrix(taps * im * ik, n), v = matrix(om * ok, n);
    for (let t = 0; t < n; t++) {
      const { i, j } = products[t];
      for (let row = 0; row < u.rows; row++) {
        const tap = Math.floor(row / (im * ik)), b = Math.floor(row / ik) % im, d = row % ik;
        u.data[row * n + t] = one.u.data[b * one.u.columns + i] *
          two.u.data[(tap * ik + d) * two.u.columns + j];
      }
      for (let o = 0; o < v.rows; o++) {
        v.data[o * n + t] = Math.sign(factor) *
          one.v.data[Math.floor(o / ok) * one.v.columns + i] *
          two.v.data[(o % ok) * two.v.columns + j];
      }
    }
    return { u, s: s.subarray(0, n), v };
  };
  return complete(s, triplets);
}

/**
 * The spectrum of what an adapter adds at strength 1; under DoRA of scale · ΔW, before the lengths.
 *
 * @throws {TypeError} for (IA)^3, whose ΔW depends on the base
 */
export function spectrum(adapter: Adapter): Spectrum {
  const { scalar } = adapter.factors;
  const factor = scale(adapter) * (scalar ? scalar.dataSync()[0] : 1);
  if (adapter.algorithm === "lokr") return lokrSpectrum(adapter.factors as lokr.Factors, factor);
  const { down, up } = scoped(() => {
    const { down, up } = lowRankForm({ ...adapter, dora: false });
    return { down: matrixOf(down), up: matrixOf(up) };
  });
  for (let i = 0; i < up.data.length; i++) up.data[i] *= factor;
  return spectrumOf(decomposed(down, up));
}
