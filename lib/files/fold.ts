/** LoRA at scale 1, for dialects that have no place for a scale. */
import * as tf from "@tensorflow/tfjs";
import { type Adapter, mapFactors, scale } from "../adapter/adapter.ts";
import * as dylora from "../algorithms/dylora.ts";

/**
 * The same W′ with scale 1: `down · √|c|` and `up · ±√|c|` for a scale c, and alpha = rank.
 *
 * Both factors take their share, as float16 has digits for numbers of one size only: a scale of 1/128 in one of
 * them alone would push what a trained `up` holds below 2⁻¹⁴.
 *
 * @param adapter a LoRA without core, or a DyLoRA
 */
export function fold(adapter: Adapter): Adapter {
  const c = scale(adapter), share = Math.sqrt(Math.abs(c));
  const folded = c === 1 ? adapter : mapFactors(adapter, (tensor, name) => {
    if (name.startsWith("down")) return tf.mul(tensor, share);
    return name.startsWith("up") ? tf.mul(tensor, Math.sign(c) * share) : tensor;
  });
  const alpha = adapter.algorithm === "dylora" ? dylora.blocks(adapter.factors) : adapter.rank;
  return { ...folded, alpha, rankScale: "alpha/r" };
}
