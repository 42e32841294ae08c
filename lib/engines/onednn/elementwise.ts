/** Functions of one tensor and of two, element by element, of oneDNN. */
import { type Shape, size } from "../../tensor/shape.ts";
import type { Dnnl, Unary } from "./api.ts";
import type { Context, Kernel } from "./context.ts";
import { ARGUMENT, type Description, ELEMENT, FORWARD } from "./primitive.ts";

/** Below so many elements the wasm engine is as fast: two tensors are soon as fast as memory is. */
const SMALL = { unary: 2 ** 12, binary: 2 ** 19 };

/** TensorFlow.js's kernels of one tensor. Those that the heap's vectors do as fast are left out. */
const UNARY: Record<string, Unary> = {
  Exp: { name: "exp", alpha: 0, beta: 0 },
  Log: { name: "log", alpha: 0, beta: 0 },
  Sigmoid: { name: "logistic", alpha: 0, beta: 0 },
  Sqrt: { name: "sqrt", alpha: 0, beta: 0 },
  Tanh: { name: "tanh", alpha: 0, beta: 0 },
};

/** TensorFlow.js's kernels of two tensors, and `dnnl_binary_*`. */
const BINARY: Record<string, number> = {
  Add: 0x1fff0,
  Multiply: 0x1fff1,
  RealDiv: 0x1fff4,
  Sub: 0x1fff5,
};

/** Two operands as matrices: A `[rows, columns]`, and B as large or with 1 in the place of either. */
interface Pair {
  rows: number;
  columns: number;
  b: readonly [rows: number, columns: number];
}

/** A and B where B has A's shape, or its last axes, or is a number; undefined for what else broadcasts. */
function pair(a: Shape, b: Shape): Pair | undefined {
  if (b.length > a.length) return undefined;
  const whole = size(a), part = size(b);
  if (part === 1) return { rows: 1, columns: whole, b: [1, 1] };
  const trimmed = b.slice(b.findIndex((length) => length !== 1)); // [1, 1, C] is [C]
  const lead = a.length - trimmed.length;
  if (trimmed.some((length, axis) => length !== a[lead + axis])) return undefined;
  return { rows: whole / part, columns: part, b: [1, part] };
}

function describeUnary(dnnl: Dnnl, { name, alpha, beta }: Unary, length: number): Description {
  const x = dnnl.memory([length], [1]);
  return {
    description: dnnl.describe("unary", [FORWARD, dnnl.unary(name), x, x, alpha, beta]),
    operands: [
      { argument: ARGUMENT.source, memory: x },
      { argument: ARGUMENT.destination, memory: x },
    ],
  };
}

function describeBinary(dnnl: Dnnl, operation: number, { rows, columns, b }: Pair): Description {
  const left = dnnl.memory([rows, columns], [columns, 1]), right = dnnl.memory(b, [b[1], 1]);
  return {
    description: dnnl.describe("binary", [operation, left, right, left]),
    operands: [
      { argument: ARGUMENT.source, memory: left },
      { argument: ARGUMENT.second, memory: right },
      { argument: ARGUMENT.destination, memory: left },
    ],
  };
}

/** TensorFlow.js's kernels by their names. */
export function elementwiseKernels({ dnnl, primitives, at }: Context): Record<string, Kernel> {
  const unary = (kernel: string): Kernel => (call, shipped) => {
    const { x } = call.inputs, length = size(x.shape);
    if (length < SMALL.unary) return shipped(call);
    const y = call.backend.makeOutput(x.shape, "float32");
    const describe = () => describeUnary(dnnl, UNARY[kernel], length);
    primitives.run(`${kernel} ${length}`, ELEMENT * length, describe, [x, y].map(at));
    return y;
  };

  const binary = (kernel: string): Kernel => (call, shipped) => {
    let { a, b } = call.inputs;
    const commutes = kernel === "Add" || kernel === "Multiply";
    if (commutes && size(b.shape) > size(a.shape)) [a, b] = [b, a];
    const shape = size(a.shape) < SMALL.binary ? undefined : pair(a.shape, b.shape);
    if (!shape) return shipped(call);
    const y = call.backend.makeOutput(a.shape, "float32");
    primitives.run(
      `${kernel} ${shape.rows} ${shape.columns} ${shape.b}`,
      ELEMENT * size(a.shape),
      () => describeBinary(dnnl, BINARY[kernel], shape),
      [a, b, y].map(at),
    );
    return y;
  };

  return Object.fromEntries([
    ...Object.keys(UNARY).map((kernel) => [kernel, unary(kernel)]),
    ...Object.keys(BINARY).map((kernel) => [kernel, binary(kernel)]),
  ]);
}
