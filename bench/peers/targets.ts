/** What rows say of what is to be reached. */

import { inputs } from "../../lib/tensor/shape.ts";
import type { Place, Way } from "../support/cases.ts";

/** One case: milliseconds of a step, and MiB that it takes, of both sides. */
export interface Row {
  case: string;
  algorithm: string;
  /** 0 where there is none */
  rank: number;
  ours_ms: number;
  /** LyCORIS as its users run it: W′ rebuilt, NCHW */
  default_ms: number;
  /** the best of its modes and memory formats */
  best_ms: number;
  /** ours of the layer alone, in the same turns, where {@link comparedWithBase} asks for it */
  base_ms?: number;
  ours_mib?: number;
  default_mib?: number;
  best_mib?: number;
}

/** exp of the mean logarithm. */
export function geometricMean(numbers: readonly number[]): number {
  return Math.exp(numbers.reduce((sum, number) => sum + Math.log(number), 0) / numbers.length);
}

/** A base layer may be so much slower than torch's, which computes by oneDNN too. */
const BASE = 0.95;
/** Channels from which a layer counts as wide. */
const WIDE = 256;

/** What an algorithm may take over its base layer, where that is wide, by algorithm and rank. */
const OVERHEADS = [["lora", 8, 0.12], ["ia3", 0, 0.05]] as const;

/** Whether a case is to be timed beside its base layer. */
export function comparedWithBase(
  { place, way, rank }: { place?: Place; way: Way; rank: number },
): boolean {
  const wide = place !== undefined && inputs(place.kernel) >= WIDE;
  return wide && OVERHEADS.some(([name, at]) => name === way.name && at === rank);
}

/** A line a target: how far it is met, and what falls short of it. */
export function targets(rows: readonly Row[]): string {
  const adapted = rows.filter(({ algorithm }) => algorithm !== "base");
  const bases = rows.filter(({ algorithm, case: name }) => algorithm === "base" && /→/.test(name));
  const percent = (share: number) => `${(100 * share).toFixed(0)} %`;
  const name = ({ case: place, algorithm, rank }: Row) =>
    `${place} ${algorithm}${rank ? ` r${rank}` : ""}`;
  const met = (rule: string, all: readonly [Row, number][], holds: (value: number) => boolean) => {
    const short = all.filter(([, value]) => !holds(value)).sort(([, a], [, b]) => a - b);
    const listed = short.map(([row, value]) => `\n    ${name(row)}: ${value.toFixed(2)}`);
    return `${rule}: ${all.length - short.length} of ${all.length}${listed.join("")}`;
  };
  const lines = [];
  if (adapted.length > 0) {
    const faster = adapted.map((row): [Row, number] => [row, row.best_ms / row.ours_ms]);
    lines.push(
      `default/ours, geometric mean (2.2): ${
        geometricMean(adapted.map((row) => row.default_ms / row.ours_ms)).toFixed(2)
      }`,
      `best/ours, geometric mean: ${geometricMean(faster.map(([, value]) => value)).toFixed(2)}`,
      met("best/ours at least 1.0", faster, (value) => value >= 1),
    );
  }
  const speeds = bases.map((row): [Row, number] => [row, row.best_ms / row.ours_ms]);
  lines.push(met(`base layer's best/ours at least ${BASE}`, speeds, (value) => value >= BASE));
  for (const [algorithm, rank, most] of OVERHEADS) {
    const over = rows.flatMap((row): [Row, number][] =>
      row.algorithm === algorithm && row.rank === rank && row.base_ms
        ? [[row, row.ours_ms / row.base_ms - 1]]
        : []
    );
    const rule = `${algorithm}'s overhead over the base at most ${percent(most)} on wide layers`;
    lines.push(met(rule, over, (value) => value <= most));
  }
  const peaks = rows.flatMap((row): [Row, number][] =>
    row.ours_mib && row.default_mib ? [[row, row.ours_mib / row.default_mib]] : []
  );
  if (peaks.length > 0) {
    lines.push(met("memory, ours/default at most 1.0", peaks, (value) => value <= 1));
  }
  return lines.join("\n");
}
