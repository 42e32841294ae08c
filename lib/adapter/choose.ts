/** Which algorithm, and with which settings: the best of all ways (`ways.ts`), for a kernel and for a model. */
import { type Shape, show } from "../tensor/shape.ts";
import { differ, type FitChoiceOptions, fits, type FittedWay, type Kernels } from "./choose_fit.ts";
import { least } from "./least.ts";
import { type ChooseOptions, fullRank, type Goal, type Way, waysTo } from "./ways.ts";

/** Throws unless a goal is one. */
function checkGoal(goal: Goal): void {
  const [[name, value] = ["goal", NaN], ...more] = Object.entries(goal);
  if (
    more.length > 0 || !(name in { rank: 0, parameters: 0, bytes: 0 }) ||
    !(Number.isFinite(value) && value >= 1)
  ) {
    throw new RangeError(
      `Cannot choose an algorithm as the goal must be one of rank, parameters, bytes, and at least 1: ` +
        `current ${name} is ${value}`,
    );
  }
}

/**
 * The algorithm and settings that reach a rank with the fewest parameters, or the largest rank within a budget; or whose
 * fit of a difference is within an error with the fewest parameters, measured.
 *
 * @param shape of the kernel, `[...k, I/G, O]`; for an error the difference itself, or `{ base, tuned }`
 * @throws {RangeError} for a rank or an error that no way reaches, or a budget below the least
 *
 * @example
 * ```ts
 * import { choose, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * // rank 64 as the Kronecker product of two 8 × 8: 2 · 64 numbers, where a LoRA has 64 · (64 + 64)
 * const { settings, parameters } = choose([64, 64], { rank: 64 });
 * assert.equal([settings.algorithm, settings.factor, parameters], ["lokr", 8, 128]);
 * assert.is(choose([64, 64], { parameters: 1000 }, { among: ["lora"] }).reach, 7);
 *
 * // what was learnt is small but for one direction
 * const column = tf.linspace(1, 2, 16).reshape([16, 1]), rest = tf.randomNormal([16, 12], 0, 1e-3);
 * const way = choose(tf.add(tf.matMul(column, tf.ones([1, 12])), rest), { error: 0.1 });
 * assert.ok(way.error < 0.1 && way.parameters <= 16 + 12);
 * ```
 */
export function choose(shape: Shape, goal: Goal, options?: ChooseOptions): Way;
export function choose(
  kernels: Kernels,
  goal: { error: number },
  options?: FitChoiceOptions,
): FittedWay;
export function choose(
  what: Shape | Kernels,
  goal: Goal | { error: number },
  options: ChooseOptions | FitChoiceOptions = {},
): Way | FittedWay {
  return "error" in goal
    ? chooseFit(what as Kernels, goal.error, options)
    : chooseWay(what as Shape, goal, options as ChooseOptions);
}

function chooseFit(kernels: Kernels, error: number, options: FitChoiceOptions): FittedWay {
  const [best] = fits(kernels, error, options);
  if (best) return best;
  const rule = differ(kernels)
    ? `one of ${options.among} must fit within the error: current error is ${error}`
    : "the kernels must differ: current ΔW is 0";
  throw new RangeError(`Cannot choose an algorithm as ${rule}`);
}

function chooseWay(shape: Shape, goal: Goal, options: ChooseOptions): Way {
  checkGoal(goal);
  const [best] = waysTo(shape, goal, options);
  if (best) return best;
  const [name, value] = Object.entries(goal)[0];
  const [cheapest] = waysTo(shape, { rank: 1 }, options);
  throw new RangeError(
    `Cannot choose an algorithm for a kernel ${show(shape)} as ` +
      ("rank" in goal
        ? `its rank is <= ${fullRank(shape)}`
        : `the least takes ${"bytes" in goal ? cheapest.bytes : cheapest.parameters} ${name}`) +
      `: current ${name} is ${value}`,
  );
}

/** What is chosen for a model. */
export interface ChosenWays<W extends Way | FittedWay = Way> {
  /** by layer */
  readonly ways: ReadonlyMap<string, W>;
  /** for `lora.model(model, rank, { overrides })` */
  readonly overrides: Record<string, W["settings"]>;
  readonly parameters: number;
  readonly bytes: number;
}

/** Ways by layer, together. */
function together<W extends Way | FittedWay>(ways: ReadonlyMap<string, W>): ChosenWays<W> {
  const total = (count: "parameters" | "bytes") =>
    [...ways.values()].reduce((sum, way) => sum + way[count], 0);
  const overrides = Object.fromEntries([...ways].map(([name, { settings }]) => [name, settings]));
  return { ways, overrides, parameters: total("parameters"), bytes: total("bytes") };
}

/**
 * The same for all layers of a model together: the rank, or all the rank that a layer has; the largest rank that all
 * of them can have within a budget; or the error for each layer that differs.
 *
 * @param shapes of kernels, by layer; for an error the differences themselves, or `{ base, tuned }`
 * @throws {RangeError} for a budget below the least, or an error that no way reaches
 */
export function chooseAll(
  shapes: ReadonlyMap<string, Shape>,
  goal: Goal,
  options?: ChooseOptions,
): ChosenWays;
export function chooseAll(
  kernels: ReadonlyMap<string, Kernels>,
  goal: { error: number },
  options?: FitChoiceOptions,
): ChosenWays<FittedWay>;
export function chooseAll(
  layers: ReadonlyMap<string, Shape | Kernels>,
  goal: Goal | { error: number },
  options: ChooseOptions | FitChoiceOptions = {},
): ChosenWays | ChosenWays<FittedWay> {
  if (!("error" in goal)) {
    return chooseWays(layers as ReadonlyMap<string, Shape>, goal, options as ChooseOptions);
  }
  const kernels = [...layers] as [string, Kernels][];
  const changed = kernels.filter(([, own]) => differ(own));
  return together(
    new Map(changed.map(([name, own]) => [name, chooseFit(own, goal.error, options)])),
  );
}

function chooseWays(
  shapes: ReadonlyMap<string, Shape>,
  goal: Goal,
  options: ChooseOptions,
): ChosenWays {
  checkGoal(goal);
  const known = new Map<string, Way>();
  const wayFor = (shape: Shape, rank: number) => {
    const key = `${show(shape)} ${rank}`;
    const way = known.get(key) ?? choose(shape, { rank: Math.min(rank, fullRank(shape)) }, options);
    known.set(key, way);
    return way;
  };
  const at = (rank: number): ChosenWays => {
    return together(new Map([...shapes].map(([name, shape]) => [name, wayFor(shape, rank)])));
  };
  if ("rank" in goal) return at(goal.rank);
  const [name, budget] = Object.entries(goal)[0] as ["parameters" | "bytes", number];
  const most = Math.max(1, ...[...shapes.values()].map(fullRank));
  const largest = least(most, (rank) => at(rank)[name] > budget) - 1;
  if (largest > 0) return at(largest);
  throw new RangeError(
    `Cannot choose algorithms for ${shapes.size} layers as the least takes ${
      at(1)[name]
    } ${name}: ` +
      `current ${name} is ${budget}`,
  );
}
