/** A table as Markdown, between what was measured and what it says. */

/** The lines, the rows by the names of their columns (numbers to the right), and the rest as it is. */
export function markdown(
  about: readonly string[],
  rows: readonly Record<string, string | number>[],
  rest: string,
): string {
  const names = Object.keys(rows[0]), line = (cells: unknown[]) => `| ${cells.join(" | ")} |`;
  const rule = names.map((name) => rows.every((row) => !isNaN(Number(row[name]))) ? "--:" : "---");
  const body = rows.map((row) => line(names.map((name) => row[name])));
  const parts = [about.join("\n"), [line(names), line(rule), ...body].join("\n")];
  return [...parts, "```text\n" + rest + "\n```", ""].join("\n\n");
}
