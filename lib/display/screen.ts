/** Where progress is shown: the terminal, or lines of a notebook. */
import process from "node:process";
import { place } from "./kernel.ts";

/** What a line that is redrawn in place needs of a stream. */
export interface Screen {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

let chosen: Screen | undefined;

/** Where progress is shown now. */
export function screen(): Screen {
  return chosen ?? process.stderr;
}

/** From now on progress is shown under the cell that runs. */
export function inNotebook(): void {
  let line: ReturnType<typeof place> | undefined;
  chosen = {
    isTTY: true,
    columns: 100,
    write(text) {
      const words = text.replaceAll("\x1b[K", "").trim();
      if (words) void (line ??= place())({ "text/plain": words });
      if (text.endsWith("\n")) line = undefined;
    },
  };
}
