/** At what strength an adapter is in a kernel: least squares, with the base and without. */
import type * as tf from "@tensorflow/tfjs";
import type { Adapter } from "./adapter.ts";
import { conform } from "./conform.ts";
import { scoped } from "./matrices.ts";
import { delta, merge } from "./merge.ts";

/** What one kernel tells of the strength s. */
export interface Fitted {
  /** the s that explains most */
  strength: number;
  /** ‖f(1) − f(0)‖², how much s moves the kernel: its weight among kernels */
  weight: number;
  /** ‖W′ − W − f(s)‖², what s does not explain */
  rest: number;
  /** ‖W′ − W‖², all there is to explain */
  all: number;
  /** how many numbers the kernel has */
  count: number;
}

/** Steps of Gauss and Newton: all but BOFT are straight lines in s, and done after the first. */
const STEPS = 6;

/** Numbers in the place of a tensor that goes with its scope. */
function numbers(make: () => tf.Tensor): ArrayLike<number> {
  return scoped(() => make().dataSync());
}

/**
 * The s with the least ‖W′ − merge(W, s)‖.
 *
 * @param base W
 * @param model W′, of the same shape
 */
export function strengthOf(adapter: Adapter, base: tf.Tensor, model: tf.Tensor): Fitted {
  const W = base.dataSync(), given = model.dataSync(), count = W.length;
  const at = (strength: number) =>
    numbers(() => merge(base, conform(adapter, base.shape), { strength }));
  const end = at(1), start = at(0);
  let strength = 0, weight = 0;
  for (let step = 0; step < (adapter.algorithm === "boft" ? STEPS : 1); step++) {
    const now = step === 0 ? start : at(strength);
    const after = step === 0 ? end : at(strength + 1 / 2);
    const before = step === 0 ? start : at(strength - 1 / 2);
    let shared = 0, moved = 0;
    for (let i = 0; i < count; i++) {
      const slope = after[i] - before[i];
      shared += (given[i] - now[i]) * slope;
      moved += slope * slope;
    }
    strength += moved > 0 ? shared / moved : 0;
    weight = moved;
  }
  const found = at(strength);
  let rest = 0, all = 0;
  for (let i = 0; i < count; i++) {
    rest += (given[i] - found[i]) ** 2;
    all += (given[i] - W[i]) ** 2;
  }
  return { strength, weight, rest, all, count };
}

/** What one kernel tells of s where its base is not at hand. */
export interface Projected {
  /** ⟨W′, scale · ΔW⟩ */
  shared: number;
  /** the same with ΔW moved against W′, which then can tell nothing: what chance gives */
  chance: number[];
  /** ‖scale · ΔW‖² */
  weight: number;
}

/** How often ΔW is moved. */
const MOVES = 12;

/**
 * W′ along ΔW, as it lies and moved.
 *
 * `⟨W′, ΔW⟩ = ⟨W, ΔW⟩ + s ‖ΔW‖²`, of which the first is small, as W knows nothing of ΔW, but for what training took from it.
 *
 * @throws {TypeError} for an adapter whose ΔW depends on the base
 */
export function projected(adapter: Adapter, model: tf.Tensor): Projected {
  const W = model.dataSync(), count = W.length;
  const D = numbers(() => delta(conform(adapter, model.shape)));
  const along = (by: number) => {
    let sum = 0;
    for (let i = 0, j = by; i < count; i++, j = j + 1 === count ? 0 : j + 1) sum += W[i] * D[j];
    return sum;
  };
  const chance = Array.from(
    { length: MOVES },
    (_, move) => along(Math.floor(count * (move + 1) / (MOVES + 1)) % count),
  );
  let weight = 0;
  for (let i = 0; i < count; i++) weight += D[i] * D[i];
  return { shared: along(0), chance, weight };
}
