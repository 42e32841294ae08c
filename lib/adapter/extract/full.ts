/** The difference itself. */
import * as tf from "@tensorflow/tfjs";
import { size } from "../../tensor/shape.ts";
import { WIDTH } from "../bytes.ts";
import { fit } from "../fit.ts";
import { plain } from "../plain.ts";
import type { Difference } from "./difference.ts";
import type { Choice, Extracted, ExtractOptions } from "./options.ts";

/** All of it, as `full`, of a normalization's vector as `norm`. */
export function extractFull({ shape, tensor, energy }: Difference): Extracted {
  const algorithm = shape.length === 1 ? "norm" : "full";
  const adapter = plain(algorithm, shape, 0, { difference: tf.clone(tensor) });
  return fit(adapter, Math.sqrt(energy), 0);
}

/** The one way, with Δb where there is one. */
export function fullChoices({ shape }: Difference, options: ExtractOptions): Choice[] {
  const { bias: { base, tuned } = {}, dtype = "f32" } = options;
  const bytes = (size(shape) + ((tuned ?? base)?.size ?? 0)) * WIDTH[dtype];
  return [{ algorithm: "full", options: {}, bytes, loss: 0 }];
}
