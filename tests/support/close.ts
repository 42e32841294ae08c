/** Comparing tensors: the one tolerance table, and the two checks every suite uses. */
import * as tf from "@tensorflow/tfjs";
import type { Test } from "uvu";

/** Largest difference allowed, as a share of the largest expected magnitude. */
export const TOLERANCE = {
  /** two float32 routes to the same value, or a value against a fixture */
  value: 1e-5,
  /** a gradient against a fixture or another route */
  gradient: 5e-5,
  /** chains of rotations (OFT, BOFT) */
  rotation: 5e-5,
  rotationGradient: 3e-4,
  /** float64 linear algebra */
  double: 1e-10,
  /** float16 and bfloat16 storage: half a unit in the last place */
  half: 2 ** -11,
  bfloat: 2 ** -8,
};
export type Tolerance = keyof typeof TOLERANCE;

export type Values = ArrayLike<number>;

/** max|actual − expected| / max|expected|, or infinity where a number is missing or not finite. */
export function distance(actual: Values, expected: Values): number {
  if (actual.length !== expected.length) return Infinity;
  let worst = 0, size = 0;
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i] - expected[i]);
    if (Number.isNaN(error)) return Infinity;
    if (error > worst) worst = error;
    if (Math.abs(expected[i]) > size) size = Math.abs(expected[i]);
  }
  return worst === 0 ? 0 : size === 0 ? worst : worst / size;
}

/** Asserts that two tensors have one shape and agree to the tolerance. */
export function close(
  actual: tf.Tensor,
  expected: tf.Tensor,
  tolerance: Tolerance = "value",
  what = "tensor",
): void {
  const [a, b] = [actual.shape.join("×"), expected.shape.join("×")];
  if (a !== b) throw new Error(`${what}: shape is ${a}, expected ${b}`);
  const error = distance(actual.dataSync(), expected.dataSync());
  if (!(error <= TOLERANCE[tolerance])) {
    throw new Error(
      `${what}: relative error ${error} is above ${tolerance} ${TOLERANCE[tolerance]}`,
    );
  }
}

/**
 * Makes every test of a suite run in a tidy scope, and adds a last one: no tensor outlives any of them.
 *
 * The leaks are told there: uvu drops the error of a test whose after-hook throws.
 */
export function leakless(suite: Test): void {
  const leaks: string[] = [];
  let before = 0;
  suite.before.each(() => {
    before = tf.memory().numTensors;
    tf.engine().startScope();
  });
  suite.after.each(({ __test__ }) => {
    tf.engine().endScope();
    const left = tf.memory().numTensors - before;
    if (left !== 0) leaks.push(`${left} by "${__test__}"`);
  });
  const { run } = suite;
  suite.run = () => {
    suite("leaves no tensor over", () => {
      if (leaks.length > 0) throw new Error(`tensors left over: ${leaks.join(", ")}`);
    });
    run();
  };
}
