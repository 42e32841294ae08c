/** Adapters at a glance: what they are, their shapes, parameters and share, their length and their spectrum. */
import type * as tf from "@tensorflow/tfjs";
import { type Adapter, parameters, scale, tensors } from "../adapter/adapter.ts";
import type { AttachedModel } from "../layers/model.ts";
import type { Attached } from "../layers/site.ts";
import { type Shape, show, size } from "../tensor/shape.ts";
import { type Shown, shown } from "./bundle.ts";
import { glance } from "./glance.ts";
import { markup } from "./rows.ts";
import { type Row, table } from "./table.ts";
import { COLORS } from "./theme.ts";

/** One adapter, one on a layer, those of a model, or those of a file by their names. */
export type Subject = Adapter | Attached | AttachedModel | ReadonlyMap<string, Adapter | Attached>;

/** Singular values that a thumbnail shows, and its size in pixels. */
const BARS = 32, BAR = 3, HEIGHT = 24;
/** Adapters that are told of one by one. */
const ROWS = 16;

/**
 * Shows an adapter, one attached to a layer, or all those of a model or a file. In a notebook's cell such a value shows
 * itself like this when it stands alone in the last line.
 *
 * @param base the kernel of a bare adapter, where its ΔW depends on one
 *
 * @example
 * ```ts
 * import { lora } from "lowrank";
 * import { card } from "lowrank/display";
 * import * as assert from "uvu/assert";
 *
 * const text = String(card(lora.create([3, 3, 64, 128], 8)));
 * assert.match(text, "5,632"); // 8 · (9 · 64 + 128) parameters
 * ```
 */
export function card(subject: Subject, base?: tf.Tensor): Shown & { toString(): string } {
  if (subject instanceof Map) return many(subject);
  if ("attached" in subject) return many(subject.attached);
  const { row, bars } = told(subject as Adapter | Attached, base);
  const factors = tensors(adapterOf(subject as Adapter | Attached))
    .map(([name, { shape }]) => `${name} ${show(shape)}`).join(", ");
  const rows = [{ ...row, factors }];
  return shown({ "text/html": markup(rows, spectra([bars])), "text/plain": table(rows) });
}

const adapterOf = (one: Adapter | Attached): Adapter => "adapter" in one ? one.adapter : one;

/** What is told of one, and its spectrum as a drawing. */
function told(one: Adapter | Attached, base?: tf.Tensor): { row: Row; bars: string } {
  const attached = "adapter" in one ? one : undefined, adapter = adapterOf(one);
  const { algorithm, shape, rank } = adapter, count = parameters(adapter);
  const { norm, singularValues } = glance(adapter, base, attached && (() => attached.delta()));
  const row = {
    adapter: algorithm + (attached ? ` on ${attached.layer.name}` : ""),
    kernel: show(shape),
    rank,
    scale: scale(adapter),
    ...(attached && { strength: attached.strength }),
    parameters: count,
    share: shareOf(count, shape),
    "‖ΔW‖": norm === undefined ? "" : norm.toPrecision(3),
  };
  return { row, bars: norm && singularValues ? thumbnail(singularValues) : "" };
}

/** Parameters as a share of a kernel's numbers; nothing where a file does not tell its shape. */
function shareOf(parameters: number, ...shapes: Shape[]): string {
  if (shapes.flat().includes(-1)) return "";
  const numbers = shapes.reduce((sum, shape) => sum + size(shape), 0);
  return `${(100 * parameters / numbers).toFixed(1)} %`;
}

/** All of them in a row of their own, as far as there is room, and what they are together. */
function many(named: ReadonlyMap<string, Adapter | Attached>): Shown & { toString(): string } {
  const adapters = [...named.values()].map(adapterOf);
  const count = adapters.reduce((sum, adapter) => sum + parameters(adapter), 0);
  const share = shareOf(count, ...adapters.map(({ shape }) => shape));
  const first = [...named].slice(0, ROWS).map(([name, one]) => {
    const { row, bars } = told(one);
    return { row: { layer: name, ...row, adapter: adapterOf(one).algorithm }, bars };
  });
  const rest = named.size - first.length;
  const rows: Row[] = [
    ...first.map(({ row }) => row),
    ...(rest > 0 ? [{ layer: `and ${rest} more` }] : []),
    { layer: "together", parameters: count, share },
  ];
  const drawings = spectra(first.map(({ bars }) => bars));
  return shown({ "text/html": markup(rows, drawings), "text/plain": table(rows) });
}

/** A column of drawings, if there are any. */
function spectra(spectrum: string[]): Record<string, string[]> {
  return spectrum.some(Boolean) ? { spectrum } : {};
}

/** Singular values as bars, as shares of the largest. */
function thumbnail(singularValues: Float64Array): string {
  const bars = [...singularValues.subarray(0, BARS)].map((s, i) => {
    const height = HEIGHT * s / singularValues[0], y = (HEIGHT - height).toFixed(1);
    return `<rect x="${(BAR + 1) * i}" y="${y}" width="${BAR}" height="${height.toFixed(1)}"/>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${(BAR + 1) * BARS}" height="${HEIGHT}" ` +
    `fill="${COLORS[0]}"><title>singular values of ΔW</title>${bars.join("")}</svg>`;
}
