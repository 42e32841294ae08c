/** What is to be extracted: ΔW between two kernels. */
import * as tf from "@tensorflow/tfjs";
import { same, type Shape, show } from "../../tensor/shape.ts";
import { energyOf, scoped } from "../matrices.ts";

/** ΔW = tuned − base; made in a scope that frees it. */
export interface Difference {
  readonly shape: Shape;
  readonly base: tf.Tensor;
  /** ΔW, `[...k, I/G, O]` */
  readonly tensor: tf.Tensor;
  /** ‖ΔW‖² */
  readonly energy: number;
}

/**
 * The difference of two kernels.
 *
 * @throws {TypeError} for kernels of two shapes
 * @throws {RangeError} where a number is not finite
 */
export function differenceOf(base: tf.Tensor, tuned: tf.Tensor): Difference {
  if (!same(base.shape, tuned.shape)) {
    throw new TypeError(
      `Cannot extract a difference as both kernels must be of one shape: current shapes are ` +
        `${show(base.shape)} and ${show(tuned.shape)}`,
    );
  }
  const tensor = tf.sub(tuned, base), energy = energyOf(tensor);
  if (!Number.isFinite(energy)) {
    throw new RangeError(
      `Cannot extract a difference as its numbers must be finite: current ‖ΔW‖² is ${energy}`,
    );
  }
  return { shape: base.shape, base, tensor, energy };
}

/** ‖ΔW − ΔW′‖ / ‖ΔW‖, from the difference itself. */
export function errorOf({ tensor, energy }: Difference, approximation: tf.Tensor): number {
  const missed = scoped(() => energyOf(tf.sub(tensor, approximation)));
  return Math.sqrt(missed / energy);
}
