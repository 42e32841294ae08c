/**
 * The one look of all figures: no background of their own and grey text that is readable on white and on black, and
 * the colours of Okabe and Ito, which colour-blind people tell apart, without those that fade on either ground.
 */

/** Colours of curves, in order. */
export const COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"] as const;

/** 4.3 : 1 on white and 4.4 : 1 on the notebook's dark ground. */
export const TEXT = "#7b7b7b";
export const GRID = "rgba(128, 128, 128, 0.3)";
export const FONT = "Verdana, 'DejaVu Sans', sans-serif";

/** Pixels of a figure that is not told otherwise. */
export const WIDTH = 720;
export const HEIGHT = 400;

/** A figure of plotly.js; a title may be a text alone. */
export interface Figure {
  /** traces, as plotly.js has them */
  readonly data: readonly Readonly<Record<string, unknown>>[];
  /** axes, titles, sizes, over those of the theme */
  readonly layout?: Readonly<Record<string, unknown>>;
}

type Part = Record<string, unknown>;

/** The same with its title as plotly.js wants it. */
function titled(part: Part, size: number): Part {
  const { title } = part;
  if (title === undefined) return part;
  const whole = typeof title === "string" ? { text: title } : title as Part;
  return { ...part, title: { font: { size }, ...whole } };
}

/** A figure in the look of all; what it says itself stays. */
export function themed({ data, layout = {} }: Figure): { data: Part[]; layout: Part } {
  const axes = Object.fromEntries(
    [
      ...new Set([
        "xaxis",
        "yaxis",
        ...Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key)),
      ]),
    ]
      .map((key) => [
        key,
        titled({
          gridcolor: GRID,
          linecolor: TEXT,
          zerolinecolor: GRID,
          ...layout[key] as Part,
        }, 13),
      ]),
  );
  return {
    data: data.map((trace) => ({ ...trace })),
    layout: {
      width: WIDTH,
      height: HEIGHT,
      colorway: [...COLORS],
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: FONT, size: 12, color: TEXT },
      margin: { l: 70, r: 20, t: layout.title ? 50 : 20, b: 55 },
      ...titled(layout as Part, 15),
      ...axes,
    },
  };
}
