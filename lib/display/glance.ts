/** What a ΔW is like, as far as it can be told at a glance: its length and its singular values. */
import * as tf from "@tensorflow/tfjs";
import { type Adapter, parameters, tensors } from "../adapter/adapter.ts";
import { hasLowRankForm } from "../adapter/low_rank.ts";
import { matrixOf, scoped } from "../adapter/matrices.ts";
import { delta } from "../adapter/merge.ts";
import { spectrum } from "../adapter/spectrum.ts";
import { svd } from "../tensor/svd.ts";

/** What can be told; nothing of an adapter that was freed, or that depends on a base which is not at hand. */
export interface Glance {
  /** ‖ΔW‖, all that is multiplied by s */
  norm?: number;
  /** descending */
  singularValues?: Float64Array;
}

/** Multiplications on factors, and numbers of a whole ΔW, beyond which a decomposition takes a second. */
const WORK = 5e7, NUMBERS = 400_000;

/** Ranks of ΔW that its factors are decomposed over; LoKr's two parts are decomposed alone. */
function ranks({ algorithm, rank }: Adapter): number {
  return algorithm === "loha" ? rank ** 2 : algorithm === "lokr" ? 1 : rank;
}

/**
 * The length and the singular values of what an adapter adds at strength 1.
 *
 * @param change makes it, for an adapter on a layer; without it that is {@link delta} of the adapter and `base`
 */
export function glance(adapter: Adapter, base?: tf.Tensor, change?: () => tf.Tensor): Glance {
  if (tensors(adapter).some(([, tensor]) => tensor.isDisposed)) return {};
  try {
    if (hasLowRankForm(adapter) && parameters(adapter) * ranks(adapter) <= WORK) {
      const { s, energy } = spectrum(adapter);
      return { norm: Math.sqrt(energy), singularValues: s };
    }
    return scoped(() => {
      const whole = change?.() ?? delta(adapter, base), norm = tf.norm(whole).dataSync()[0];
      if (whole.rank < 2 || whole.size > NUMBERS) return { norm };
      return { norm, singularValues: svd(matrixOf(whole), { rank: 1 }).spectrum };
    });
  } catch (error) {
    if (error instanceof TypeError && !base) return {}; // depends on a base that is not at hand
    throw error;
  }
}
