/** What adapters take in a file: the bytes of their tensors, without the header. */
import { rowOf } from "../algorithms/table.ts";
import { type Adapter, tensors } from "./adapter.ts";

/** How a file stores numbers. */
export type Stored = "f32" | "f16" | "bf16";

/** Bytes of a number. */
export const WIDTH: { readonly [dtype in Stored]: number } = { f32: 4, f16: 2, bf16: 2 };

/** What an algorithm without alpha may have in its place, a flag or a constraint: one int64 at the most. */
const FLAG = 8;

/** The bytes of an adapter's tensors in a file, alpha included, or a little more; a `scalar` is multiplied in. */
export function bytesOf(adapter: Adapter, dtype: Stored): number {
  const numbers = tensors(adapter)
    .filter(([name]) => name !== "scalar")
    .reduce((sum, [, { size }]) => sum + size, 0);
  return numbers * WIDTH[dtype] + (rowOf(adapter.algorithm).scaled ? WIDTH[dtype] : FLAG);
}
