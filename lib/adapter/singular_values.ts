/** The singular values of an adapter's ΔW alone, from triangles of its factors: what looking at it needs. */
import type * as tf from "@tensorflow/tfjs";
import type * as lokr from "../algorithms/lokr.ts";
import * as lora from "../algorithms/lora.ts";
import {
  addProduct,
  type Block,
  type Matrix,
  matrix,
  multiply,
  rows,
  transpose,
} from "../tensor/matrix.ts";
import { svd } from "../tensor/svd.ts";
import { type Adapter, scale } from "./adapter.ts";
import { lowRankForm } from "./low_rank.ts";
import { matrixOf, scoped } from "./matrices.ts";

/** A down · up in float64. */
interface Pair {
  down: Matrix;
  up: Matrix;
}

/**
 * R of `A = Q R` from Aᵀ, by Cholesky's factor of `AᵀA`, half the work of reflections twice over.
 *
 * Squaring leaves half of float64's digits for what is small beside the largest: 1e-8 of that, where factors are
 * stored to 1e-7 at best.
 */
function triangle(columns: Matrix): Matrix {
  const r = columns.rows, gram = matrix(r, r), strip = 32;
  const block = (from: number): Block => rows(columns, from, Math.min(from + strip, r));
  for (let i = 0; i < r; i += strip) {
    for (let j = 0; j <= i; j += strip) {
      const [a, b] = [block(i), block(j)];
      const part = { data: gram.data, start: i * r + j, stride: r, rows: a.rows, columns: b.rows };
      addProduct(part, a, b, 1);
    }
  }
  return transpose(cholesky(gram));
}

/** L of `G = L Lᵀ` from G's lower triangle; a direction that G does not have becomes zero. */
function cholesky({ rows: r, data: G }: Matrix): Matrix {
  const L = matrix(r, r), { data } = L;
  let largest = 0;
  for (let i = 0; i < r; i++) largest = Math.max(largest, G[i * r + i]);
  for (let j = 0; j < r; j++) {
    for (let i = j; i < r; i++) {
      let rest = G[i * r + j];
      for (let k = 0; k < j; k++) rest -= data[i * r + k] * data[j * r + k];
      if (i > j) data[i * r + j] = data[j * r + j] === 0 ? 0 : rest / data[j * r + j];
      else data[j * r + j] = rest > NOTHING * largest ? Math.sqrt(rest) : 0;
    }
  }
  return L;
}

/** What rounding leaves of a square that is zero. */
const NOTHING = 1e-15;

/** σ(down · up) = σ(R Sᵀ) with down = Q R and upᵀ = P S; of the product itself where that is the smaller. */
function ofPair({ down, up }: Pair): Float64Array {
  if (down.columns >= Math.min(down.rows, up.columns)) return svd(multiply(down, up)).s;
  const one = triangle(transpose(down)), two = triangle(up);
  return svd(multiply(one, transpose(two))).s;
}

/** w1 or w2 of a LoKr, one of which is whole or a pair. */
function ofPart(w: tf.Tensor | undefined, pair: lora.Factors): Float64Array {
  if (w) return svd(matrixOf(w)).s;
  return ofPair(scoped(() => {
    const { down, up } = lora.lowRank(pair);
    return { down: matrixOf(down), up: matrixOf(up) };
  }));
}

/** σ(w1 ⊗ w2): the products of both parts' singular values. */
function ofLokr({ w1, down1, up1, w2, down2, up2, core2 }: lokr.Factors): Float64Array {
  const one = ofPart(w1, { down: down1!, up: up1! });
  const two = ofPart(w2, { down: down2!, up: up2!, core: core2 });
  const products = new Float64Array(one.length * two.length);
  one.forEach((σ, i) => two.forEach((τ, j) => products[i * two.length + j] = σ * τ));
  return products.sort().reverse();
}

/**
 * The singular values of scale · ΔW, descending, without those that the rank of the factors makes zero; under DoRA
 * before the lengths.
 *
 * @throws {TypeError} for an algorithm whose ΔW depends on the base
 */
export function singularValues(adapter: Adapter): Float64Array {
  const { algorithm, factors } = adapter;
  const factor = Math.abs(scale(adapter) * (factors.scalar ? factors.scalar.dataSync()[0] : 1));
  const s = algorithm === "lokr" ? ofLokr(factors as lokr.Factors) : ofPair(scoped(() => {
    const { down, up } = lowRankForm({ ...adapter, dora: false });
    return { down: matrixOf(down), up: matrixOf(up) };
  }));
  return s.map((σ) => σ * factor);
}

/** Multiply-adds of {@link singularValues}, about: of both triangles, and of the product's decomposition. */
export function decomposing({ algorithm, factors, shape }: Adapter): number {
  if (algorithm === "lokr") return 0;
  const rows = shape.slice(0, -1).reduce((product, length) => product * length, 1);
  const columns = shape[shape.length - 1], whole = Math.min(rows, columns);
  const own = factors.up?.shape[0] ?? (factors.up1 ? factors.up1.shape[0] ** 2 : whole);
  const rank = Math.min(own, whole);
  return (rows + columns) * rank ** 2 / 2 + 12 * rank ** 3;
}
