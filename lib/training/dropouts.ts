/** Dropouts that change as training goes on. */
import type { Dropouts } from "../adapter/adapter.ts";
import type { Target } from "../layers/each.ts";
import { constant, type Schedule } from "./schedule.ts";

/** Each dropout as a probability, or as a function of the step or epoch. */
export type DropoutSchedules = {
  readonly [name in "dropout" | "rankDropout" | "moduleDropout"]?: number | Schedule;
};

/** Sets dropouts; a callback of `model.fit` too, which does so before each step, or each epoch. */
export interface ScheduledDropouts {
  /** sets what they are at a step, or an epoch, for a loop of one's own; the first is 0 */
  update(step: number): void;
  onEpochBegin(epoch: number): void;
  onBatchBegin(): void;
}

/**
 * Dropouts of an adapter or a model's by {@link Schedule}, counted by the steps of all trainings together, or by epochs.
 *
 * @throws {TypeError} for a dropout that none of the algorithms has
 * @throws {RangeError} for a probability that is not at least 0 and below 1, before the step of which it is
 *
 * @example
 * ```ts
 * import { lora, schedule, scheduleDropouts, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const model = tf.sequential({ layers: [tf.layers.dense({ inputShape: [4], units: 3 })] });
 * const all = lora.model(model, 2), [attached] = all.attached.values();
 * const dropouts = scheduleDropouts(all, { rankDropout: schedule.linear(0, 0.4, 10), moduleDropout: 0.1 });
 * // await model.fit(x, y, { callbacks: [dropouts] });
 * dropouts.update(5);
 * assert.is(attached.adapter.dropouts.rankDropout, 0.2);
 * assert.is(attached.adapter.dropouts.moduleDropout, 0.1);
 * ```
 */
export function scheduleDropouts(
  target: Target,
  schedules: DropoutSchedules,
  by: "step" | "epoch" = "step",
): ScheduledDropouts {
  const all = Object.entries(schedules).map(([name, value]) => [name, constant(value)] as const);
  const update = (step: number) => {
    const now = Object.fromEntries(all.map(([name, at]) => [name, at(step)]));
    target.drop(now as Partial<Dropouts>);
  };
  update(0);
  let step = 0;
  return {
    update,
    onEpochBegin: (epoch) => by === "epoch" ? update(epoch) : undefined,
    onBatchBegin: () => by === "step" ? update(step++) : undefined,
  };
}
