/** Adapters whose numbers leave a reader nothing to get wrong: the scale multiplied in, the constraint applied. */
import * as tf from "@tensorflow/tfjs";
import { rowOf } from "../algorithms/table.ts";
import { constrain } from "../algorithms/oft.ts";
import { tidy } from "../tensor/tidy.ts";
import { skew } from "../tensor/cayley.ts";
import { type Adapter, mapFactors, scale } from "./adapter.ts";
import { convert } from "./convert.ts";

/** The one factor that takes the scale, of GLoRA one in each of its terms; those of them that are there. */
const TAKING: { readonly [algorithm in Adapter["algorithm"]]?: readonly string[] } = {
  lora: ["up"],
  loha: ["up1"],
  lokr: ["w1", "up1"],
  glora: ["downA", "downB"],
};

/** Whether {@link folded} has a form for it. */
export function isFoldable({ algorithm }: Adapter): boolean {
  return algorithm === "dylora" || algorithm in TAKING || algorithm === "oft" ||
    algorithm === "boft";
}

/**
 * The same W′ at scale 1, with alpha the rank: scale and `scalar` are in one factor. A DyLoRA becomes a LoRA.
 *
 * Of OFT and BOFT the constraint is applied to the blocks, and a new one is so large that no reader's comes into
 * play, whether it takes it times O or as it is.
 *
 * @returns a value with tensors of its own
 * @throws {TypeError} for an algorithm whose ΔW has no scale of its own, or T-LoRA, which has it in what is frozen too
 */
export function folded(adapter: Adapter): Adapter {
  const { algorithm, rank, factors } = adapter, { blocks, scalar } = factors;
  if (algorithm === "dylora") return tidy(() => folded(convert(adapter, "lora")));
  if (blocks) return unconstrained(adapter, blocks);
  const taking = TAKING[algorithm]?.filter((name) => name in factors && factors[name]);
  if (!taking || !rowOf(algorithm).scaled) {
    throw new TypeError(
      `Cannot fold the scale of ${algorithm} into a factor as one must take all of it: ` +
        "current algorithm has none that does",
    );
  }
  const c = scale(adapter);
  const scaled = tidy(() =>
    mapFactors(adapter, (tensor, name) => {
      if (!taking.includes(name)) return tf.clone(tensor);
      const once = tf.mul(tensor, c);
      return scalar ? tf.mul(once, scalar) : once;
    })
  );
  const { scalar: _, ...rest } = scaled.factors;
  scaled.factors.scalar?.dispose();
  return { ...scaled, factors: rest, alpha: rank, rankScale: "alpha/r" };
}

function unconstrained(adapter: Adapter, blocks: tf.Tensor): Adapter {
  const { constraint = 0 } = adapter, [n, b] = blocks.shape.slice(-3);
  const held = tidy(() => {
    const own = constraint > 0 ? constrain(blocks, constraint * n * b) : blocks;
    return mapFactors(adapter, (tensor, name) => tf.clone(name === "blocks" ? own : tensor));
  });
  const length = tf.tidy(() => tf.norm(tf.reshape(skew(held.factors.blocks!), [-1])).dataSync()[0]);
  return { ...held, constraint: Math.max(1, 2 ** Math.ceil(Math.log2(2 * length || 1))) };
}
