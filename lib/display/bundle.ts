/** What a notebook is given to show: one thing in several media types, of which it takes the best. */

/** Contents by media type. */
export type Bundle = Record<string, unknown>;

/** The media type of a figure of plotly.js. */
export const PLOTLY = "application/vnd.plotly.v1+json";

/** The method by which a value of any kernel's Deno tells how it is shown; elsewhere nobody calls it. */
export const DISPLAY: unique symbol = Symbol.for("Jupyter.display") as typeof DISPLAY;

/** A value that shows itself as the last expression of a cell. */
export interface Shown {
  [DISPLAY](): Bundle | Promise<Bundle>;
}

/** A value that shows itself in these media types, and prints as its text. */
export function shown(bundle: Bundle & { "text/plain": string }): Shown & { toString(): string } {
  return { [DISPLAY]: () => bundle, toString: () => bundle["text/plain"] };
}

/** Text as it stands in HTML and SVG. */
export function escaped(text: string): string {
  const entities: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
  };
  return text.replace(/[&<>"]/g, (character) => entities[character]);
}
