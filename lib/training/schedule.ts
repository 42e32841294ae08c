/** Numbers that change as training goes on, as plain functions of the step or epoch, the first of which is 0. */

/** What a number is at a step. */
export type Schedule = (step: number) => number;

/** A number as a schedule, and a schedule as it is. */
export function constant(value: number | Schedule): Schedule {
  return typeof value === "number" ? () => value : value;
}

/** The share of the way that is gone, from 0 to 1, where it stays. */
const gone = (step: number, steps: number) =>
  steps > 0 ? Math.min(1, Math.max(0, step / steps)) : 1;

/** A number between two, exactly they at the ends. */
const between = (from: number, to: number, share: number) =>
  share < 1 ? from + (to - from) * share : to;

/**
 * from + (to − from) · step / steps, then `to`.
 *
 * @example
 * ```ts
 * import { schedule } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const dropout = schedule.linear(0, 0.5, 100);
 * assert.equal([0, 50, 100, 1000].map(dropout), [0, 0.25, 0.5, 0.5]);
 * ```
 */
export function linear(from: number, to: number, steps: number): Schedule {
  return (step) => between(from, to, gone(step, steps));
}

/** from + (to − from) · (1 − cos(π · step / steps)) / 2, half a cosine (Loshchilov & Hutter, arXiv 1608.03983), then `to`. */
export function cosine(from: number, to: number, steps: number): Schedule {
  return (step) => between(from, to, (1 - Math.cos(Math.PI * gone(step, steps))) / 2);
}
