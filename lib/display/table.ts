/** Rows of values as text in columns. */

/** One row: what each column, by its heading, shows. */
export type Row = Readonly<Record<string, string | number>>;

/** Decimals that a column of fractions shows at most, and digits that its largest number does. */
const DECIMALS = 4, DIGITS = 5;

/**
 * Rows as lines of aligned columns under their headings, for a terminal.
 *
 * Columns stand in the order in which the rows first name them; a value that a row lacks is left empty.
 * Numbers are grouped by thousands, have the same decimals all along a column, and end at its right
 * edge; so do texts that begin as numbers do, such as `97.1 %`.
 */
export function table(rows: readonly Row[]): string {
  const columns = columnsOf(rows).map(({ heading, cells, right }) => {
    const width = Math.max(...[heading, ...cells].map((cell) => cell.length));
    const align = (cell: string) => right ? cell.padStart(width) : cell.padEnd(width);
    return [align(heading), "─".repeat(width), ...cells.map(align)];
  });
  const lines = columns[0]?.map((_, line) => columns.map((cells) => cells[line]).join("  ")) ?? [];
  return lines.map((line) => line.trimEnd()).join("\n");
}

/** One column: its cells as text, and whether they stand at its right edge. */
interface Column {
  heading: string;
  cells: string[];
  right: boolean;
}

/** The columns of rows, in the order in which the rows first name them. */
export function columnsOf(rows: readonly Row[]): Column[] {
  const headings = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  return headings.map((heading) => {
    const values = rows.map((row) => row[heading] ?? "");
    const right = values.every((value) => typeof value === "number" || /^([-+]?\d|$)/.test(value));
    return { heading, cells: texts(values), right };
  });
}

/** The values of one column as text. */
function texts(values: readonly (string | number)[]): string[] {
  const numbers = values.filter((value) => typeof value === "number").filter(Number.isFinite);
  const whole = Math.max(...numbers.map((value) => Math.trunc(Math.abs(value)).toFixed(0).length));
  const room = Math.max(0, Math.min(DECIMALS, DIGITS - whole));
  const decimals = (value: number) => `${Number(value.toFixed(room))}`.split(".")[1]?.length ?? 0;
  const digits = Math.max(0, ...numbers.map(decimals));
  const format = new Intl.NumberFormat("en", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
  return values.map((value) => typeof value === "number" ? format.format(value) : value);
}
