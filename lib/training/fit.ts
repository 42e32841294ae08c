/** One plain loop over variables, for those who do not want `model.fit`. */
import * as tf from "@tensorflow/tfjs";
import { setImmediate as turn } from "node:timers/promises";
import { progress } from "../display/progress.ts";
import { stopSignal } from "../display/stop.ts";
import { adam } from "./adam.ts";
import { cosine } from "./schedule.ts";

/** What {@link fit} may be told. */
export interface FitOptions {
  /** how many steps at most; without it, until the batches end */
  steps?: number;
  /** of Adam, 0.001 unless told; falls to 0 along half a cosine where `steps` tells how many there are */
  rate?: number;
  /** used instead of Adam, as it is; the caller disposes of it */
  optimizer?: tf.Optimizer;
  /** called after every step with its number, the first is 1, and its loss */
  onStep?: (step: number, loss: number) => void;
  /** stops between two steps, a notebook's Stop unless told; the variables keep what they have learnt */
  signal?: AbortSignal;
  /** what the progress on a terminal is called; "" shows none */
  title?: string;
}

/** How a {@link fit} went. */
export interface Fitted {
  /** one a step, of the variables as they were before it */
  losses: number[];
  /** the median, without the time that making a batch takes */
  msPerStep: number;
}

/**
 * v ← optimizer(v, ∂ loss(batch) / ∂v) for each batch, for these variables and no others.
 *
 * @param batches each is disposed of after its step
 * @param loss its scalar and whatever else it makes are disposed of
 * @throws the signal's reason, once it is aborted
 */
export async function fit<B extends tf.TensorContainer>(
  variables: readonly tf.Variable[],
  batches: Iterable<B> | AsyncIterable<B>,
  loss: (batch: B) => tf.Scalar,
  options: FitOptions = {},
): Promise<Fitted> {
  const { steps = Infinity, rate = 1e-3, optimizer, onStep, title = "training" } = options;
  const { signal = stopSignal() } = options;
  signal.throwIfAborted();
  const descent = optimizer ?? adam(rate);
  const bar = title === "" ? undefined : progress(title, steps);
  const losses: number[] = [], times: number[] = [], rateAt = cosine(rate, 0, steps);
  try {
    for await (const batch of steps > 0 ? batches : []) {
      if (!optimizer) {
        Object.assign(descent, { learningRate: rateAt(losses.length) });
      }
      const start = performance.now();
      let value: number;
      try {
        const scalar = descent.minimize(() => loss(batch), true, [...variables])!;
        [value] = await scalar.data();
        scalar.dispose();
      } finally {
        tf.dispose(batch);
      }
      times.push(performance.now() - start);
      losses.push(value);
      bar?.step(1, `loss ${value.toFixed(4)}`);
      onStep?.(losses.length, value);
      if (losses.length >= steps) break;
      await turn(); // an engine that never waits would keep a signal or a click from being heard
      signal.throwIfAborted();
    }
  } finally {
    bar?.done();
    if (!optimizer) descent.dispose();
  }
  return { losses, msPerStep: median(times) };
}

/** The middle one of some numbers; NaN of none. */
function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return (sorted[Math.floor(middle)] + sorted[Math.ceil(middle)]) / 2;
}
