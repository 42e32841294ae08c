/**
 * Births of LoRA from the kernel it is for, rather than from random numbers and zeros.
 *
 * Here they are `down` and `up` alone; `lora.ts` keeps them as `bornDown`, `bornUp` and takes their product off again, so that
 * the layer computes what it did and its kernel stays what it is.
 */
import type * as tf from "@tensorflow/tfjs";
import { type Matrix, matrix, multiply, transpose } from "../tensor/matrix.ts";
import { qr } from "../tensor/qr.ts";
import { outputs, size } from "../tensor/shape.ts";
import { randomizedSvd, svd } from "../tensor/svd.ts";

/** The largest singular triplets of the kernel, or the first vectors of its QR. */
export type Birth = "pissa" | "olora";

/** `down` `[k·I/G, r]` and `up` `[r, O]`, float64. */
export interface Pair {
  down: Matrix;
  up: Matrix;
}

/** Below this share of all triplets a search for the largest is faster than finding all. */
const FEW = 1 / 8;

/**
 * down = U√S, up = √S Vᵀ of the r largest triplets of W: down · up is the best rank r of it.
 *
 * Meng, Wang & Zhang, "PiSSA: Principal Singular Values and Singular Vectors Adaptation", arXiv 2404.02948. Of a wide
 * kernel the triplets are found by a randomized search, as in PEFT's `pissa_niter_4`: nearly the largest, which is enough
 * for a birth.
 */
function pissa(W: Matrix, rank: number): Pair {
  const few = rank < FEW * Math.min(W.rows, W.columns);
  const { u, s, v } = few ? randomizedSvd(W, rank, { iterations: 4 }) : svd(W, { rank });
  const weighted = ({ rows, columns, data }: Matrix) =>
    matrix(rows, columns, data.map((value, i) => value * Math.sqrt(s[i % columns])));
  return { down: weighted(u), up: transpose(weighted(v)) };
}

/**
 * With Wᵀ = QR: up = the first r columns of Q, orthonormal, as rows; down = the first r rows of R as columns.
 *
 * Büyükakyüz, "OLoRA: Orthonormal Low-Rank Adaptation of Large Language Models", arXiv 2406.01775, where W lies as PyTorch
 * has it. Q's first columns are those of the first columns of Wᵀ alone, and R = QᵀWᵀ, so that down = W · upᵀ.
 */
function olora(W: Matrix, rank: number): Pair {
  const first = matrix(rank, W.columns, W.data.slice(0, rank * W.columns));
  const { q } = qr(transpose(first));
  return { down: multiply(W, q), up: transpose(q) };
}

/** The factors of a birth, from a kernel `[...k, I/G, O]`. */
export function principal(base: tf.Tensor, rank: number, birth: Birth): Pair {
  const O = outputs(base.shape), W = matrix(size(base.shape) / O, O, base.dataSync());
  return { pissa, olora }[birth](W, rank);
}
