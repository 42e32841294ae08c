/**
 * Which algorithm, and with which settings, for a difference that is there: that of fewest parameters whose fit is within
 * an error.
 *
 * Every fit told here has been made and measured. A spectrum tells how a LoRA will fit before it is made, and nearly how
 * a LoKr will; ranks of Tucker cores and of LoHa are searched for.
 */
import * as tf from "@tensorflow/tfjs";
import { rowOf } from "../algorithms/table.ts";
import { factorPair } from "../tensor/kronecker.ts";
import { inputs, isWide, outputs, type Shape, show } from "../tensor/shape.ts";
import { dispose, parameters } from "./adapter.ts";
import { bytesOf, type Stored } from "./bytes.ts";
import { choices, extract } from "./extract.ts";
import type { Extractable, ExtractOptions } from "./extract/options.ts";
import { least } from "./least.ts";
import { scoped } from "./matrices.ts";
import type { ModuleSettings } from "./settings.ts";

/** A difference: itself, or two kernels of it, `[...k, I/G, O]`. */
export type Kernels = tf.Tensor | { base: tf.Tensor; tuned: tf.Tensor };

/** How a way to fit is chosen. */
export interface FitChoiceOptions {
  /** the algorithms to choose from; default lora, lokr, ia3 and full: a LoHa takes many times longer to find */
  among?: readonly Extractable[];
  /** how a file stores numbers, for bytes; default "f16" */
  dtype?: Stored;
}

/** One way to adapt a kernel, and how well it fits a difference. */
export interface FittedWay {
  /** as `overrides` and `create` take them */
  readonly settings: ModuleSettings & { algorithm: Extractable; rank: number };
  /** as `extract` takes them, to have that fit */
  readonly extraction: ExtractOptions;
  readonly parameters: number;
  /** the tensors in a file, alpha among them */
  readonly bytes: number;
  /** ‖ΔW − ΔW′‖ / ‖ΔW‖, measured */
  readonly error: number;
}

/** A way before its fit is made. */
interface Trial extends Pick<FittedWay, "settings" | "extraction"> {
  /** the error that it is expected to have */
  expected: number;
  parameters: number;
}

const ALL: readonly Extractable[] = ["lora", "lokr", "ia3", "full"];

/** The largest rank of a LoHa that is searched for: a fit of it takes long on a large kernel. */
const MOST_LOHA = 16;

/** A LoKr's fit may be so much better than its spectrum tells, as w1 and w2 are fitted to each other after the cut. */
const BETTER = 1.1;

/** All that an extraction is told, as the settings of the adapter that comes of it. */
function settingsOf(extraction: ExtractOptions): Trial["settings"] {
  const { algorithm = "lora", rank, factor, tucker, onInput } = extraction;
  const whole = algorithm === "lokr" && rank === undefined;
  return {
    algorithm: algorithm as Extractable,
    rank: rank ?? (whole ? 1 : 0),
    ...(factor !== undefined && { factor }),
    ...(whole && { full: true }),
    ...(tucker && { tucker }),
    ...(onInput && { onInput }),
    ...(algorithm === "full" && { bias: false }),
  };
}

function trial(shape: Shape, extraction: ExtractOptions, expected: number): Trial {
  const settings = settingsOf(extraction), { algorithm, rank, ...options } = settings;
  const { parameters } = rowOf(algorithm).algorithm.cost(shape, rank, options as ModuleSettings);
  return { settings, extraction, expected, parameters };
}

/** A factor for each way that LoKr can split the channels, but for that into one and all. */
function factorsOf(shape: Shape): number[] {
  const I = inputs(shape), O = outputs(shape), longest = Math.max(I, O);
  const divisors = Array.from({ length: longest }, (_, i) => i + 1)
    .filter((factor) => I % factor === 0 || O % factor === 0);
  const splits = new Map(
    [-1, ...divisors].map((
      factor,
    ) => [`${factorPair(I, factor)[0]} ${factorPair(O, factor)[0]}`, factor]),
  );
  splits.delete("1 1");
  return [...splits.values()];
}

/** What the choice is for. */
interface Wanted {
  base: tf.Tensor;
  tuned: tf.Tensor;
  error: number;
  dtype: Stored;
}

/** A way as it has turned out. */
function made({ base, tuned, dtype }: Wanted, { settings, extraction }: Trial): FittedWay {
  const { adapter, error } = extract(base, tuned, extraction)!;
  const way = {
    settings,
    extraction,
    parameters: parameters(adapter),
    bytes: bytesOf(adapter, dtype),
    error,
  };
  dispose(adapter);
  return way;
}

/** The ways of an algorithm that its spectrum tells. */
function told(algorithm: Extractable, { base, tuned }: Wanted): Trial[] {
  const { shape } = base, factors = algorithm === "lokr" ? factorsOf(shape) : [undefined];
  const found = factors.flatMap((factor) => {
    const options = { algorithm, whole: "never", factor } as const;
    const { choices: ways, energy } = choices(base, tuned, options);
    return ways.map(({ options: own, loss }) =>
      trial(shape, { ...options, ...own }, Math.sqrt(loss / energy))
    );
  });
  return found.sort((a, b) => a.parameters - b.parameters);
}

/** The first of some trials, of fewest parameters first, that is within the error. */
function first(wanted: Wanted, trials: readonly Trial[], fewer: number): FittedWay | undefined {
  for (const one of trials) {
    if (one.parameters >= fewer) return undefined;
    if (one.expected > BETTER * wanted.error) continue;
    const way = made(wanted, one);
    if (way.error <= wanted.error) return way;
  }
  return undefined;
}

/** The smallest rank of some within the error, of those with fewer parameters than something found before. */
function searched(
  wanted: Wanted,
  at: (rank: number) => Trial,
  fewer: number,
  [from, to]: [number, number],
): FittedWay | undefined {
  const { base: { shape } } = wanted, most = Math.min(inputs(shape), outputs(shape), to);
  const ranks = least(most, (rank) => at(rank).parameters >= fewer) - 1;
  const tried = new Map<number, FittedWay>();
  const rank = least(ranks, (rank) => {
    if (rank < from) return false;
    tried.set(rank, made(wanted, at(rank)));
    return tried.get(rank)!.error <= wanted.error;
  });
  return tried.get(rank);
}

/** The way of fewest parameters of one algorithm, where there is one. */
function best(algorithm: Extractable, wanted: Wanted, fewer: number): FittedWay | undefined {
  const { shape } = wanted.base;
  if (algorithm === "loha") {
    return searched(wanted, (rank) => trial(shape, { algorithm, rank }, 0), fewer, [1, MOST_LOHA]);
  }
  const trials = told(algorithm, wanted), way = first(wanted, trials, fewer);
  if (algorithm !== "lora" || !isWide(shape)) return way;
  // with a core of rank r ΔW has rank r at the most, so that it misses what a LoRA of that rank does, or more
  const enough = trials.find(({ expected }) => expected <= wanted.error);
  const cored = (rank: number) =>
    trial(shape, { algorithm, rank, tucker: true, whole: "never" }, 0);
  const fewest = way?.parameters ?? fewer;
  return enough && searched(wanted, cored, fewest, [enough.settings.rank, Infinity]) || way;
}

/** Both kernels of a difference. */
function pairOf(kernels: Kernels): { base: tf.Tensor; tuned: tf.Tensor } {
  return "base" in kernels ? kernels : { base: tf.zerosLike(kernels), tuned: kernels };
}

/**
 * The best way of each algorithm whose fit is within an error, the one of fewest parameters first.
 *
 * @returns none of an algorithm that does not reach the error, or only with more parameters than the difference has; none
 * at all where there is no difference
 * @throws {TypeError} for kernels of two shapes, or a vector
 * @throws {RangeError} for an error that is not at least 0 and below 1
 */
export function fits(
  kernels: Kernels,
  error: number,
  { among = ALL, dtype = "f16" }: FitChoiceOptions = {},
): FittedWay[] {
  if (!(error >= 0 && error < 1)) {
    throw new RangeError(
      `Cannot choose an algorithm as the error must be at least 0 and below 1: current error is ${error}`,
    );
  }
  return scoped(() => {
    const { base, tuned } = pairOf(kernels), { shape, size } = base;
    if (shape.length < 2) {
      throw new TypeError(
        `Cannot choose an algorithm as a kernel is [...k, I/G, O]: current shape is ${show(shape)}`,
      );
    }
    if (!differ({ base, tuned })) return [];
    const wanted = { base, tuned, error, dtype };
    const ways = among.flatMap((algorithm) => best(algorithm, wanted, size + 1) ?? []);
    return ways.sort((a, b) => a.parameters - b.parameters);
  });
}

/** Whether there is a difference to fit. */
export function differ(kernels: Kernels): boolean {
  return scoped(() => {
    const { base, tuned } = pairOf(kernels);
    return choices(base, tuned, { algorithm: "full" }).energy > 0;
  });
}
