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
  const columns = columnsOf(rows);
  const line = (tag: "th" | "td", cells: string[]) =>
    "<tr>" + cells.map((cell, i) =>
      `<${tag} style="text-align:${columns[i].right ? "right" : "left"}">${escaped(cell)}</${tag}>`
    ).join("") + "</tr>";
  const head = line("th", columns.map(({ heading }) => heading));
  const body = rows.map((_, n) => line("td", columns.map(({ cells }) => cells[n])));
  return shown({
    "text/html": `<table>\n<thead>${head}</thead>\n<tbody>\n${body.join("\n")}\n</tbody>\n</table>`,
    "text/plain": text(rows),
  });
}
