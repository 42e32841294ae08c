/** Elementwise sums, products, differences and quotients of oneDNN. */
import { type Shape, size } from "../../tensor/shape.ts";
import type { Dnnl } from "./api.ts";
import { ARGUMENT, type Operand } from "./primitive.ts";

/** `dnnl_binary_*`. */
export const OPERATIONS = { Add: 0x1fff0, Multiply: 0x1fff1, RealDiv: 0x1fff4, Sub: 0x1fff5 };
export type Operation = keyof typeof OPERATIONS;

/** Two operands as matrices: B is whole, or one row, or one number, of A `[rows, columns]`. */
export interface Pair {
  rows: number;
  columns: number;
  /** `[rows, columns]` of B: each as A's, or 1 */
  b: readonly [rows: number, columns: number];
}

/**
 * A and B as matrices where B is A's shape, its last axes, or a single number; undefined for what else
 * broadcasts.
 */
export function pair(a: Shape, b: Shape): Pair | undefined {
  if (b.length > a.length) return undefined;
  const whole = size(a), part = size(b);
  if (part === 1) return { rows: 1, columns: whole, b: [1, 1] };
  const trimmed = b.slice(b.findIndex((length) => length !== 1)); // [1, 1, C] is [C]
  const lead = a.length - trimmed.length;
  if (lead < 0 || trimmed.some((length, axis) => length !== a[lead + axis])) return undefined;
  const rows = whole / part;
  return rows === 1
    ? { rows, columns: whole, b: [1, whole] }
    : { rows, columns: part, b: [1, part] };
}

/** The primitive, with operands in the order A, B, result. */
export function binary(
  dnnl: Dnnl,
  operation: Operation,
  { rows, columns, b: [bRows, bColumns] }: Pair,
): { description: number; operands: Operand[] } {
  const a = dnnl.memory([rows, columns], [columns, 1]);
  const b = dnnl.memory([bRows, bColumns], [bColumns, 1]);
  return {
    description: dnnl.describe("binary", [OPERATIONS[operation], a, b, a]),
    operands: [
      { argument: ARGUMENT.source, memory: a },
      { argument: ARGUMENT.second, memory: b },
      { argument: ARGUMENT.destination, memory: a },
    ],
  };
}
