/** Several ways to do the same, timed one after another again and again, so that a busy moment hits all of them. */
import { measure } from "mitata";

/** How long to time. */
export interface Span {
  /** times each way has its turn */
  rounds?: number;
  /** milliseconds of each turn at least; a turn has two runs at least */
  budget?: number;
}

/** The least milliseconds that a function took within a turn. */
export async function least(run: () => unknown, budget: number): Promise<number> {
  const { min } = await measure(run, {
    min_cpu_time: budget * 1e6,
    min_samples: 2,
    warmup_samples: 1,
  });
  return min / 1e6;
}

/** The least milliseconds of each way over all rounds, in the order given. */
export async function interleaved(
  ways: readonly (() => unknown)[],
  { rounds = 3, budget = 100 }: Span = {},
): Promise<number[]> {
  const best = ways.map(() => Infinity);
  for (let round = 0; round < rounds; round++) {
    for (const [i, run] of ways.entries()) best[i] = Math.min(best[i], await least(run, budget));
  }
  return best;
}
