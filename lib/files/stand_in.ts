/** A kernel in the place of one that is not at hand, as far as an adapter tells what its kernel is like. */
import * as tf from "@tensorflow/tfjs";
import type { Adapter } from "../adapter/adapter.ts";
import { norms } from "../adapter/decompose.ts";
import { size } from "../tensor/shape.ts";
import { tidy } from "../tensor/tidy.ts";
import { gaussian } from "../algorithms/birth.ts";

/** Lengths of axes that a file does not tell: channels, and a kernel's in space. */
const CHANNELS = 32, TAPS = 3;

/**
 * A random kernel of the adapter's shape, its numbers of the size that trained ones have; under DoRA of the lengths that
 * the adapter has, which training keeps close to the base's.
 *
 * Whether two readings of an adapter agree does not depend on the kernel, and by how much they differ hardly does.
 */
export function standIn({ shape, dora, factors: { magnitude } }: Adapter): tf.Tensor {
  return tidy(() => {
    const known = shape.map((length, axis) =>
      length > 0 ? length : axis < shape.length - 2 ? TAPS : CHANNELS
    );
    if (known.length === 1) return tf.add(gaussian(known, 0.1, 0, "kernel"), 1);
    const W = gaussian(known, 1 / Math.sqrt(size(known) / known[known.length - 1]), 0, "kernel");
    return dora && magnitude ? tf.mul(W, tf.div(magnitude, norms(W, dora))) : W;
  });
}
