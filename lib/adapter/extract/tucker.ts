/** A difference as `down`, `core` and `up`, from its singular triplets. */
import * as tf from "@tensorflow/tfjs";
import { type Matrix, multiply, transpose } from "../../tensor/matrix.ts";
import { inputs, outputs, size, space } from "../../tensor/shape.ts";
import { type Svd, svd } from "../../tensor/svd.ts";
import { matrixOf, scoped, tensorOf, upload } from "../matrices.ts";
import type { Difference } from "./difference.ts";

/** LoRA's factors with a core. */
export interface Cored {
  /** `[I, r]` */
  down: tf.Tensor;
  /** `[...k, r, r]` */
  core: tf.Tensor;
  /** `[r, O]` */
  up: tf.Tensor;
}

/** Where another sweep gains less than this share of ‖ΔW‖², none is made. */
const ENOUGH = 1e-9, SWEEPS = 50;

/** `[k·m, n]` → `[k·n, m]`: each of k matrices transposed, and as float64. */
function turned(kernels: tf.Tensor, k: number): Matrix {
  const [rows, n] = kernels.shape;
  return matrixOf(tf.transpose(tf.reshape(kernels, [k, rows / k, n]), [0, 2, 1]));
}

/**
 * The core and bases of least error: HOOI (De Lathauwer, De Moor & Vandewalle 2000) from the singular vectors of the
 * output side, each basis anew for the other's projection until nothing is gained.
 */
export function tuckerOf({ shape, tensor, energy }: Difference, { s, v }: Svd): Cored {
  const k = size(space(shape)), I = inputs(shape), O = outputs(shape), rank = s.length;
  const product = (a: tf.Tensor, b: Matrix) => tf.matMul(a as tf.Tensor2D, upload(b));
  const alongO = tf.reshape(tensor, [k * I, O]);
  const alongI = tf.reshape(tf.transpose(tf.reshape(tensor, [k, I, O]), [0, 2, 1]), [k * O, I]);
  let up = v, down = up, projected = up, held = 0;
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    down = svd(scoped(() => turned(product(alongO, up), k)), { rank }).v; // [k·r, I] -> [I, r]
    projected = scoped(() => turned(product(alongI, down), k)); // [k·r, O]
    const found = svd(projected, { rank });
    up = found.v;
    const now = found.s.reduce((sum, value) => sum + value * value, 0);
    if (now - held <= ENOUGH * energy) break;
    held = now;
  }
  return {
    down: upload(down),
    core: tensorOf(multiply(projected, up), [...space(shape), rank, rank]),
    up: upload(transpose(up)),
  };
}

/**
 * LyCORIS's second stage: `down` alone, whose singular vectors count alike however large their singular values are, cut to
 * the same rank along I. Its error is above that of {@link tuckerOf}.
 */
export function secondStage({ shape }: Difference, { u, s, v }: Svd): Cored {
  const k = size(space(shape)), rank = s.length;
  const alongI = scoped(() => turned(upload(u), k)); // [k·r, I]
  const down = svd(alongI, { rank }).v;
  const core = tf.tidy(() => {
    const taps = tensorOf(multiply(alongI, down), [k, rank, rank]); // [k, up, down]
    return tf.reshape(tf.transpose(taps, [0, 2, 1]), [...space(shape), rank, rank]);
  });
  const scaled = v.data.map((value, i) => value * s[i % rank]);
  return { down: upload(down), core, up: upload(transpose({ ...v, data: scaled })) };
}
