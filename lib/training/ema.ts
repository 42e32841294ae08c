/** The factors as they were on average, which are smoother than those of any one step. */
import * as tf from "@tensorflow/tfjs";
import { type Adapter, dispose, mapFactors } from "../adapter/adapter.ts";
import { save, type SaveOptions } from "../files/adapters.ts";
import { each, type Target, variablesOf } from "../layers/each.ts";
import { constant, type Schedule } from "./schedule.ts";

/** Averages of factors; a callback of `model.fit` too, which updates them after each step. */
export interface Ema {
  /** the averages as values, by the name of their layer; gone after `dispose` */
  readonly adapters: ReadonlyMap<string, Adapter>;
  /** average ← decay · average + (1 − decay) · factor: after each step of a loop of one's own */
  update(): void;
  /** puts the averages on the layers, and what was trained back the next time */
  swap(): void;
  /** writes the averages as a file */
  save(path: string, options?: SaveOptions): Promise<void>;
  dispose(): void;
  /** {@link update}, as `model.fit(x, y, { callbacks: [average] })` calls it */
  onBatchEnd(): void;
}

/**
 * Exponential moving averages of all factors of an adapter or of a model's, beginning with what these are now.
 *
 * @param decay of the average at a step, below 1, such as 0.999; or as a function of the step, the first of which is 0:
 * `(step) => Math.min(0.999, (1 + step) / (10 + step))` forgets the birth sooner
 * @throws {RangeError} for a decay that is not at least 0 and below 1, and when the averages are updated while swapped in
 *
 * @example
 * ```ts
 * import { ema, lora, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const dense = tf.layers.dense({ inputShape: [1], units: 1 });
 * tf.sequential({ layers: [dense] });
 * const attached = lora.linear(dense, 1), up = attached.adapter.factors.up as tf.Variable;
 * const average = ema(attached, 0.75);
 * up.assign(tf.tensor([[4]]));
 * average.update();
 * average.swap();
 * assert.equal([...up.dataSync()], [0.75 * 0 + 0.25 * 4]);
 * average.swap();
 * assert.equal([...up.dataSync()], [4]);
 * average.dispose();
 * ```
 */
export function ema(target: Target, decay: number | Schedule): Ema {
  const decayAt = constant(decay), attached = each(target);
  const check = (value: number) => {
    if (value >= 0 && value < 1) return value;
    throw new RangeError(
      `Cannot average factors as decay must be at least 0 and below 1: current decay is ${value}`,
    );
  };
  check(decayAt(0));
  const held = new Map([...attached].map(([name, { adapter }]) => [
    name,
    mapFactors(adapter, (factor) => tf.tidy(() => tf.variable(tf.clone(factor), false))),
  ]));
  const live = new Map([...attached].map(([name, { adapter }]) => [name, adapter]));
  const pairs = [...live].flatMap(([name, adapter]) =>
    variablesOf(adapter).map(([factor, variable]) =>
      [held.get(name)!.factors[factor] as tf.Variable, variable] as const
    )
  );
  let step = 0, swapped = false;

  const update = () => {
    if (swapped) {
      throw new RangeError(
        "Cannot average factors as the averages are in their place: swap them back before training",
      );
    }
    const share = 1 - check(decayAt(step++));
    tf.tidy(() => {
      for (const [average, variable] of pairs) {
        average.assign(tf.add(average, tf.mul(tf.sub(variable, average), share)));
      }
    });
  };
  const averages = () => swapped ? live : held;
  return {
    get adapters() {
      return averages();
    },
    update,
    swap() {
      for (const [average, variable] of pairs) {
        const trained = variable.clone();
        variable.assign(average);
        average.assign(trained);
        trained.dispose();
      }
      swapped = !swapped;
    },
    save: (path, options) => save(path, averages(), options),
    dispose() {
      for (const adapter of held.values()) dispose(adapter);
    },
    onBatchEnd: update,
  };
}
