/** What was found in a file of adapters, as rows and figures. */
import type { Diagnosis, HostReading } from "../files/doctor.ts";
import type { HostName } from "../files/hosts/hosts.ts";
import type { InspectedLayer, Inspection } from "../files/inspect.ts";
import { show } from "../tensor/shape.ts";
import type { Shown } from "./bundle.ts";
import type { Picture } from "./picture.ts";
import { plot } from "./plot.ts";
import { table } from "./rows.ts";
import type { Row } from "./table.ts";

const digits = (value: number | undefined) => value === undefined ? "" : value.toPrecision(3);

/** A row for each layer, in the order given. */
export function inspectionRows(layers: readonly InspectedLayer[]): Row[] {
  return layers.map((layer) => ({
    layer: layer.name,
    algorithm: layer.algorithm + (layer.dora ? ` dora by ${layer.dora}` : ""),
    kernel: show(layer.shape.map((length) => length < 0 ? NaN : length)).replaceAll("NaN", "?"),
    rank: layer.rank,
    alpha: Number(layer.alpha.toPrecision(4)),
    scale: Number(layer.scale.toPrecision(4)),
    parameters: layer.parameters,
    dtype: layer.dtypes.join(" "),
    "‖ΔW‖": layer.broken ?? digits(layer.norm),
    "σ₁": digits(layer.spectrum?.largest[0]),
    "effective rank": digits(layer.spectrum?.effectiveRank),
    "90 % in": layer.spectrum?.rank90 ?? "",
  }));
}

/**
 * ‖scale · ΔW‖ of every layer, with its rank and its effective rank beside it when it is pointed at.
 *
 * @example
 * ```ts
 * import { files, lora } from "lowrank";
 * import { inspectionFigure } from "lowrank/display";
 * import * as assert from "uvu/assert";
 *
 * const bytes = await files.encode(new Map([["conv", lora.create([3, 3, 4, 8], 2)]]));
 * const figure = inspectionFigure(await files.inspect(bytes));
 * assert.match(await figure.svg(), "layer");
 * ```
 */
export function inspectionFigure({ layers }: Inspection): Picture {
  const rows = layers.map((layer, i) => ({ ...layer, i: i + 1 }));
  const algorithms = [...new Set(rows.map(({ algorithm }) => algorithm))];
  const data = algorithms.map((algorithm) => {
    const own = rows.filter((row) => row.algorithm === algorithm && row.norm !== undefined);
    return {
      type: "bar",
      name: algorithm,
      x: own.map(({ i }) => i),
      y: own.map(({ norm }) => norm),
      text: own.map(({ name, rank, spectrum }) =>
        `${name}: rank ${rank}${spectrum ? `, effective ${digits(spectrum.effectiveRank)}` : ""}`
      ),
      textposition: "none",
    };
  });
  return plot({
    data,
    layout: {
      title: "How much each layer adds",
      showlegend: algorithms.length > 1,
      xaxis: { title: "layer, in the file's order" },
      yaxis: { title: "‖scale · ΔW‖", rangemode: "tozero" },
    },
  });
}

/**
 * The largest singular values of the layers that add most, each as a share of the layer's largest.
 *
 * @param most how many layers; default 6
 */
export function spectraFigure({ layers }: Inspection, most = 6): Picture {
  const told = layers.filter(({ spectrum }) => (spectrum?.largest[0] ?? 0) > 0)
    .toSorted((a, b) => (b.norm ?? 0) - (a.norm ?? 0)).slice(0, most);
  const data = told.map(({ name, spectrum }) => ({
    name,
    mode: "lines+markers",
    x: spectrum!.largest.map((_, i) => i + 1),
    y: spectrum!.largest.map((σ) => σ / spectrum!.largest[0]),
  }));
  return plot({
    data,
    layout: {
      title: "Singular values of ΔW",
      showlegend: true,
      xaxis: { title: "i" },
      yaxis: { title: "σᵢ / σ₁", type: "log" },
    },
  });
}

/** A reading in a word or two: `right`, `0.50 ×`, `off by 71 %`, `nothing`, `—` for what it does not read. */
export function readingIn(reading: HostReading | undefined): string {
  if (!reading || reading.refused !== undefined) return "—";
  const { right, error = 0, factor = 1, strength } = reading;
  if (right) return "right";
  const where = strength === 1 ? "" : ` at strength ${strength}`;
  if (Math.abs(factor) < 1e-6 && Math.abs(error - 1) < 1e-6) return "nothing";
  if (Math.abs(error - Math.abs(factor - 1)) < 1e-4) return `${factor.toFixed(2)} ×${where}`;
  return `off by ${(100 * error).toPrecision(2)} %${where}`;
}

/** Errors below this are float32's rounding. */
const NOTICED = 1e-5;

/** A row for each host: how many layers it reads right, otherwise and not at all, and why. */
export function diagnosisRows({ hosts }: Diagnosis): Row[] {
  return Object.entries(hosts).map(([name, host]) => ({
    host: name,
    program: host.title,
    right: host.right,
    wrong: host.wrong,
    "not read": host.refused,
    "worst error": host.worst === undefined
      ? ""
      : host.worst < NOTICED
      ? "none"
      : `${(100 * host.worst).toPrecision(2)} %`,
  }));
}

/** A row for each layer: what each host makes of it. */
export function readingRows({ layers, hosts }: Diagnosis): Row[] {
  const names = Object.keys(hosts) as HostName[];
  return layers.map(({ name, algorithm, hosts }) => ({
    layer: name,
    algorithm,
    ...Object.fromEntries(names.map((host) => [host, readingIn(hosts[host])])),
  }));
}

/** What `inspect` or `diagnose` found, as a table; nothing for other values. */
export function findings(value: object): Shown | undefined {
  if (!("layers" in value && Array.isArray(value.layers))) return undefined;
  if ("algorithms" in value && "hashes" in value) return table(inspectionRows(value.layers));
  return "hosts" in value && "dialect" in value
    ? table(diagnosisRows(value as Diagnosis))
    : undefined;
}
