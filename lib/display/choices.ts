/** The table behind `choose`, as rows and as a figure. */
import { type Choosable, ways } from "../adapter/ways.ts";
import type { Kernels } from "../adapter/choose_fit.ts";
import type { Extractable } from "../adapter/extract/options.ts";
import type { ModuleSettings } from "../adapter/settings.ts";
import { outputs, type Shape, show, size } from "../tensor/shape.ts";
import type { Row } from "./table.ts";
import type { Figure } from "./theme.ts";

const ALGORITHMS: readonly Choosable[] = ["lora", "loha", "lokr", "full"];
const FITTED: readonly Extractable[] = ["lora", "lokr", "ia3", "full"];

/** Errors at which fits are drawn, each about 0.7 of the one before. */
const ERRORS = [0.95, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05];

/** 1, 2, 3, 4, 6, 8, 12, … and the rank that the kernel has. */
function ranksOf(shape: Shape): number[] {
  const most = Math.min(size(shape) / outputs(shape), outputs(shape));
  const steps = Array.from({ length: 1 + Math.floor(Math.log2(most)) }, (_, i) => 2 ** i);
  const all = steps.flatMap((step) => [step, 1.5 * step]).filter(Number.isInteger);
  return [...all.filter((rank) => rank < most), most];
}

/** Settings as a person says them: `lokr, factor 8, full`. */
function told({ algorithm, rank, ...options }: ModuleSettings): string {
  const words = Object.entries(options).filter(([, value]) =>
    value !== false && value !== undefined
  )
    .map(([name, value]) => (value === true ? name : `${name} ${value}`));
  return [algorithm, ...(rank && !options.full ? [`rank ${rank}`] : []), ...words].join(", ");
}

/**
 * What each algorithm takes to reach a rank, in parameters, and which of them is chosen.
 *
 * @param shape of the kernel, `[...k, I/G, O]`
 *
 * @example
 * ```ts
 * import { choiceRows, table } from "lowrank/display";
 * import * as assert from "uvu/assert";
 *
 * const rows = choiceRows([64, 64], [1, 64]);
 * const chosen = "lokr, factor 8, full";
 * assert.equal(rows[1], { rank: 64, lora: 8192, loha: 2048, lokr: 128, full: 4096, chosen });
 * table(rows);
 * ```
 */
export function choiceRows(shape: Shape, ranks: readonly number[] = ranksOf(shape)): Row[] {
  return ranks.map((rank) => {
    const all = ways(shape, { rank });
    const parameters = all.map((way) => [way.settings.algorithm, way.parameters] as const);
    const known = new Map(parameters),
      order = ALGORITHMS.flatMap((name) => {
        const count = known.get(name);
        return count === undefined ? [] : [[name, count] as const];
      });
    return { rank, ...Object.fromEntries(order), chosen: all[0] ? told(all[0].settings) : "none" };
  });
}

/**
 * Parameters over the rank that they reach, an algorithm a curve; or of a difference, the error over the parameters that
 * it takes, as measured.
 *
 * @param what the shape of a kernel, or the difference, or `{ base, tuned }`
 *
 * @example
 * ```ts
 * import { choiceFigure, plot } from "lowrank/display";
 * import * as assert from "uvu/assert";
 *
 * const figure = choiceFigure([3, 3, 16, 32]);
 * assert.equal(figure.data.map(({ name }) => name), ["lora", "loha", "lokr", "full"]);
 * plot(figure); // the last line of a cell shows it
 * ```
 */
export function choiceFigure(what: Shape | Kernels): Figure {
  return isShape(what) ? claimed(what) : measured(what);
}

function isShape(what: Shape | Kernels): what is Shape {
  return Array.isArray(what);
}

/** A curve of some ways. */
function curve(name: string, x: number[], y: number[], ways: { settings: ModuleSettings }[]) {
  return { name, x, y, text: ways.map(({ settings }) => told(settings)), mode: "lines+markers" };
}

function claimed(shape: Shape): Figure {
  const data = ALGORITHMS.map((algorithm) => {
    const found = ranksOf(shape).flatMap((rank) => ways(shape, { rank }, { among: [algorithm] }));
    const [x, y] = [found.map(({ reach }) => reach), found.map((way) => way.parameters)];
    return curve(algorithm, x, y, found);
  });
  return {
    data,
    layout: {
      title: `The fewest parameters for a rank, of a kernel ${show(shape)}`,
      xaxis: { title: "rank of ΔW", type: "log" },
      yaxis: { title: "parameters", type: "log" },
    },
  };
}

function measured(kernels: Kernels): Figure {
  const { shape } = "base" in kernels ? kernels.base : kernels;
  const data = FITTED.flatMap((algorithm) => {
    const found = ERRORS.flatMap((error) => ways(kernels, { error }, { among: [algorithm] }));
    const [x, y] = [found.map((way) => way.parameters), found.map(({ error }) => error)];
    return found.length > 0 ? [curve(algorithm, x, y, found)] : [];
  });
  return {
    data,
    layout: {
      title: `What the fit of a kernel ${show(shape)} misses`,
      xaxis: { title: "parameters", type: "log" },
      yaxis: { title: "‖ΔW − ΔW′‖ / ‖ΔW‖", rangemode: "tozero" },
    },
  };
}
