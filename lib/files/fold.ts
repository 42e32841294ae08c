/** LoRA at scale 1, for dialects that have no place for a scale. */
import * as tf from "@tensorflow/tfjs";
import { type Adapter, mapFactors, scale } from "../adapter/adapter.ts";
import type { Axis } from "../adapter/decompose.ts";
import * as dylora from "../algorithms/dylora.ts";
import { refuse } from "./dialect.ts";

/**
 * The same W′ with scale 1: `down · √|c|` and `up · ±√|c|` for a scale c, and alpha = rank.
 *
 * Both factors take their share, as float16 has digits for numbers of one size only: a scale of 1/128 in one of
 * them alone would push what a trained `up` holds below 2⁻¹⁴.
 *
 * @param magnitudes the axes of a magnitude that the dialect has a place for
 * @throws {TypeError} for an adapter that is no LoRA without core, or DyLoRA
 */
export function fold(
  layer: string,
  adapter: Adapter,
  dialect: string,
  magnitudes: readonly Axis[] = [],
): Adapter {
  const { algorithm, rank, dora, factors } = adapter;
  const isLora = ["lora", "dylora"].includes(algorithm);
  if (!isLora || factors.core || dora && !magnitudes.includes(dora)) {
    const kind = [
      algorithm,
      ...(factors.core ? ["with a core"] : []),
      ...(dora ? [`with dora by ${dora}`] : []),
    ].join(" ");
    const rule = `it holds LoRA only, without core and with ${
      magnitudes.length > 0 ? `a magnitude by ${magnitudes}` : "no magnitude"
    }`;
    const remedy = ["loha", "lokr"].includes(algorithm) ? ", or convert it to lora first" : "";
    refuse(layer, dialect, rule, `adapter is ${kind}, save it as kohya${remedy}`);
  }
  const c = scale(adapter), share = Math.sqrt(Math.abs(c));
  const folded = c === 1 ? adapter : mapFactors(adapter, (tensor, name) => {
    if (name.startsWith("down")) return tf.mul(tensor, share);
    return name.startsWith("up") ? tf.mul(tensor, Math.sign(c) * share) : tensor;
  });
  const alpha = algorithm === "dylora" ? dylora.blocks(factors) : rank;
  return { ...folded, alpha, rankScale: "alpha/r" };
}
