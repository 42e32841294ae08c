/**
 * The ways to adapt a kernel: of each algorithm that of fewest parameters for a rank, or of the largest rank for a budget;
 * or where there is a difference to fit, of fewest parameters for an error (`choose_fit.ts`).
 *
 * Compared are the algorithms whose ΔW stands by itself: lora, loha, lokr in every split, each with a Tucker core too,
 * and full. Of (IA)^3, OFT, BOFT and GLoRA the rank of ΔW is that of the base, and tells nothing.
 *
 * Rank is what a ΔW can reach, not how well it fits one: a LoKr has full rank with few numbers, and can be few kernels
 * with them. Of what is to be trained `among` says what may be.
 */
import { rowOf } from "../algorithms/table.ts";
import { factorPair } from "../tensor/kronecker.ts";
import { inputs, isWide, outputs, type Shape, size, space } from "../tensor/shape.ts";
import { type Stored, WIDTH } from "./bytes.ts";
import { type FitChoiceOptions, fits, type FittedWay, type Kernels } from "./choose_fit.ts";
import { least } from "./least.ts";
import type { ModuleSettings } from "./settings.ts";

/** The algorithms that are chosen from. */
export type Choosable = "lora" | "loha" | "lokr" | "full";

const ALL: readonly Choosable[] = ["lora", "loha", "lokr", "full"];

/** What is wanted: a rank of ΔW with the fewest parameters, or the largest rank for so many parameters or bytes. */
export type Goal = { rank: number } | { parameters: number } | { bytes: number };

/** How it is chosen. */
export interface ChooseOptions {
  /** the algorithms to choose from; default all four */
  among?: readonly Choosable[];
  /** how a file stores numbers, for bytes; default "f16" */
  dtype?: Stored;
}

/** One way to adapt a kernel. */
export interface Way {
  /** as `overrides` and `create` take them */
  readonly settings: ModuleSettings & { algorithm: Choosable; rank: number };
  /** counted by `cost` */
  readonly parameters: number;
  /** the tensors in a file, alpha among them */
  readonly bytes: number;
  /** the largest rank that ΔW can have, as a matrix `[k·I/G, O]` */
  readonly reach: number;
}

/** Ways that differ by their rank alone. */
interface Family {
  algorithm: Choosable;
  options: ModuleSettings;
  /** the largest rank that makes a difference */
  most: number;
  reach(rank: number): number;
}

/** All numbers that divide a number. */
function divisors(number: number): number[] {
  return Array.from({ length: number }, (_, i) => i + 1).filter((d) => number % d === 0);
}

/** A LoKr with both parts whole, and those with one or both of low rank, for every way to split the channels. */
function kroneckers(shape: Shape): Family[] {
  const I = inputs(shape), O = outputs(shape), k = size(space(shape)), seen = new Set<string>();
  const splits = [...new Set([...divisors(I), ...divisors(O)])].flatMap((factor) =>
    [false, true].map((unbalanced) => ({ factor, ...(unbalanced && { unbalanced }) }))
  );
  return splits.flatMap((split): Family[] => {
    const [im, ik] = factorPair(I, split.factor), pair = factorPair(O, split.factor);
    const [om, ok] = split.unbalanced ? [pair[1], pair[0]] : pair;
    if (seen.has(`${im} ${om}`)) return [];
    seen.add(`${im} ${om}`);
    const small = Math.min(im, om), large = Math.min(k * ik, ok);
    // a part is of low rank below half its longer side
    const low2 = Math.ceil(Math.max(ik, ok) / 2) - 1, low1 = Math.ceil(Math.max(im, om) / 2) - 1;
    const family = (
      options: ModuleSettings,
      most: number,
      reach: Family["reach"],
    ): Family => ({ algorithm: "lokr", options: { ...split, ...options }, most, reach });
    const cores = isWide(shape) ? [{}, { tucker: true }] : [{}];
    return [
      family({ full: true }, 1, () => small * large),
      ...cores.flatMap((core) => [
        family(core, low2, (r) => small * Math.min(r, large)),
        family(
          { ...core, decomposeBoth: true },
          Math.min(low1, low2),
          (r) => Math.min(r, small) * Math.min(r, large),
        ),
      ]),
    ];
  });
}

/** The families of an algorithm. */
function familiesOf(algorithm: Choosable, shape: Shape): Family[] {
  const most = fullRank(shape), cores = isWide(shape) ? [{}, { tucker: true }] : [{}];
  if (algorithm === "lokr") return kroneckers(shape);
  if (algorithm === "full") {
    return [{ algorithm, options: { bias: false }, most: 1, reach: () => most }];
  }
  const reach = (r: number) => Math.min(algorithm === "loha" ? r * r : r, most);
  return cores.map((options) => ({ algorithm, options, most, reach }));
}

/** The rank that a ΔW of a shape has at the most. */
export function fullRank(shape: Shape): number {
  return Math.min(size(shape) / outputs(shape), outputs(shape));
}

/** A family at a rank. */
function wayOf(shape: Shape, family: Family, rank: number, dtype: Stored): Way {
  const { algorithm, options } = family, { algorithm: { cost }, ranked } = rowOf(algorithm);
  const { parameters } = cost(shape, rank, options);
  return {
    settings: { ...options, algorithm, rank: ranked ? rank : 0 },
    parameters,
    bytes: (parameters + 1) * WIDTH[dtype],
    reach: family.reach(rank),
  };
}

/** The way of a family that meets a goal best, or none where none does. */
function bestOf(shape: Shape, family: Family, goal: Goal, dtype: Stored): Way | undefined {
  const at = (rank: number) => wayOf(shape, family, rank, dtype), { most } = family;
  const reaching = (reach: number) => least(most, (rank) => family.reach(rank) >= reach);
  if ("rank" in goal) {
    const rank = reaching(goal.rank);
    return rank > most ? undefined : at(rank);
  }
  const fits = "bytes" in goal
    ? ({ bytes }: Way) => bytes <= goal.bytes
    : ({ parameters }: Way) => parameters <= goal.parameters;
  const largest = least(most, (rank) => !fits(at(rank))) - 1;
  // no more than the rank that is reached needs
  return largest < 1 ? undefined : at(reaching(family.reach(largest)));
}

/**
 * The best way of each algorithm, the best of all first: of fewest parameters for a rank or an error, of the largest rank
 * for a budget, and of two alike the one with fewer parameters.
 *
 * @param shape of the kernel, `[...k, I/G, O]`; for an error the difference itself, or `{ base, tuned }`
 * @returns none where no way meets the goal
 */
export function ways(shape: Shape, goal: Goal, options?: ChooseOptions): Way[];
export function ways(
  kernels: Kernels,
  goal: { error: number },
  options?: FitChoiceOptions,
): FittedWay[];
export function ways(
  what: Shape | Kernels,
  goal: Goal | { error: number },
  options: ChooseOptions | FitChoiceOptions = {},
): Way[] | FittedWay[] {
  return "error" in goal
    ? fits(what as Kernels, goal.error, options)
    : waysTo(what as Shape, goal, options as ChooseOptions);
}

/** The best way of each algorithm to a rank or within a budget, the best of all first. */
export function waysTo(
  shape: Shape,
  goal: Goal,
  { among = ALL, dtype = "f16" }: ChooseOptions,
): Way[] {
  const better = "rank" in goal
    ? (a: Way, b: Way) => a.parameters - b.parameters
    : (a: Way, b: Way) => b.reach - a.reach || a.parameters - b.parameters;
  return among.flatMap((algorithm) =>
    familiesOf(algorithm, shape)
      .flatMap((family) => bestOf(shape, family, goal, dtype) ?? [])
      .sort(better)
      .slice(0, 1)
  ).sort(better);
}
