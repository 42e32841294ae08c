/** The nearest (IA)^3 to a difference, channel by channel in closed form. */
import * as tf from "@tensorflow/tfjs";
import { inputs, outputs } from "../../tensor/shape.ts";
import { WIDTH } from "../bytes.ts";
import { fit } from "../fit.ts";
import { plain } from "../plain.ts";
import { type Difference, errorOf } from "./difference.ts";
import type { Choice, Extracted, ExtractOptions } from "./options.ts";

/** v_c = ⟨ΔW_c, W_c⟩ / ⟨W_c, W_c⟩ over the outputs or the inputs, shaped to multiply a kernel; 0 where W_c is 0. */
function vectorOf({ shape, tensor, base }: Difference, onInput: boolean): tf.Tensor {
  return tf.tidy(() => {
    const kept = shape.length - (onInput ? 2 : 1);
    const summed = shape.map((_, axis) => axis).filter((axis) => axis !== kept);
    const along = (a: tf.Tensor, b: tf.Tensor) => tf.sum(tf.mul(a, b), summed);
    const ratio = tf.divNoNan(along(tensor, base), along(base, base));
    return tf.reshape(ratio, onInput ? [inputs(shape), 1] : [1, outputs(shape)]);
  });
}

/** The (IA)^3 of least error on the side asked for, or on the side that misses less. */
export function extractIa3(d: Difference, { onInput }: ExtractOptions = {}): Extracted {
  const sides = onInput === undefined ? [false, true] : [onInput];
  const [best] = sides.map((side) => {
    const vector = vectorOf(d, side);
    return { vector, error: errorOf(d, tf.mul(d.base, vector)) };
  }).sort((a, b) => a.error - b.error);
  const adapter = plain("ia3", d.shape, 0, { vector: best.vector });
  return fit(adapter, Math.sqrt(d.energy), best.error);
}

/** Both sides. */
export function ia3Choices(d: Difference, options: ExtractOptions): Choice[] {
  const width = WIDTH[options.dtype ?? "f32"];
  return [false, true].map((onInput) => {
    const vector = vectorOf(d, onInput);
    const loss = d.energy * errorOf(d, tf.mul(d.base, vector)) ** 2;
    return { algorithm: "ia3", options: { onInput }, bytes: vector.size * width + 8, loss };
  });
}
