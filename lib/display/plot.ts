/** Figures of plotly.js in a notebook. */
import { PLOTLY } from "./bundle.ts";
import { drawn } from "./draw.ts";
import { type Picture, picture } from "./picture.ts";
import { type Figure, themed } from "./theme.ts";

/**
 * A figure of plotly.js as it is shown: interactive where Plotly is, a picture where notebooks are only read.
 *
 * Titles may be texts alone; axes should have one, with its unit. Outside a notebook nothing is drawn until
 * `await plot(figure).save("figure.png")`.
 *
 * @example
 * ```ts
 * import { plot } from "lowrank/display";
 * import * as assert from "uvu/assert";
 *
 * const figure = plot({
 *   data: [{ x: [1, 2, 4], y: [0.5, 0.2, 0.1] }],
 *   layout: { xaxis: { title: "rank r" }, yaxis: { title: "missing (1)" } },
 * });
 * assert.match(await figure.svg(), ">rank r<");
 * ```
 */
export function plot(figure: Figure): Picture {
  const { data, layout } = themed(figure);
  const title = (layout.title as { text?: string } | undefined)?.text;
  return picture(() => drawn(figure), `Figure${title ? `: ${title}` : ""}`, {
    [PLOTLY]: { data, layout, config: { displayModeBar: false } },
  });
}
