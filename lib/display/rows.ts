/** Rows of values in a notebook. */
import { escaped, type Shown, shown } from "./bundle.ts";
import { columnsOf, type Row, table as text } from "./table.ts";

/**
 * Rows as a table with their headings, as on a terminal where only text is shown.
 *
 * @example
 * ```ts
 * import { table } from "lowrank/display";
 * import * as assert from "uvu/assert";
 *
 * const lines = String(table([{ layer: "conv", parameters: 5632 }])).split("\n");
 * assert.is(lines[2], "conv        5,632");
 * ```
 */
export function table(rows: readonly Row[]): Shown & { toString(): string } {
  return shown({ "text/html": markup(rows), "text/plain": text(rows) });
}

/**
 * Rows as HTML.
 *
 * @param drawings further columns by their headings: their cells, row after row, are HTML already
 */
export function markup(
  rows: readonly Row[],
  drawings: Readonly<Record<string, readonly string[]>> = {},
): string {
  const cell = (tag: "th" | "td", content: string, right = false) =>
    `<${tag} style="text-align:${right ? "right" : "left"}">${content}</${tag}>`;
  const columns = columnsOf(rows), drawn = Object.entries(drawings);
  const line = (
    tag: "th" | "td",
    text: (column: typeof columns[number]) => string,
    drawing: (column: typeof drawn[number]) => string,
  ) =>
    "<tr>" + columns.map((column) => cell(tag, escaped(text(column)), column.right)).join("") +
    drawn.map((column) => cell(tag, drawing(column))).join("") + "</tr>";
  const head = line("th", ({ heading }) => heading, ([heading]) => escaped(heading));
  const body = rows.map((_, n) =>
    line("td", ({ cells }) => cells[n], ([, cells]) => cells[n] ?? "")
  );
  return `<table>\n<thead>${head}</thead>\n<tbody>\n${body.join("\n")}\n</tbody>\n</table>`;
}
