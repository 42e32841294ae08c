/** Mathematics in a notebook. */
import { type Shown, shown } from "./bundle.ts";

/** A formula in TeX, in the middle of a line of its own. */
export function math(tex: string): Shown {
  return shown({ "text/latex": `$$${tex}$$`, "text/plain": tex });
}
