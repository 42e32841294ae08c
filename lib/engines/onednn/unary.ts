/**
 * Functions of one tensor, element by element, of oneDNN.
 *
 * Those of two, and those that only compare, stay the wasm engine's: measured, both run at the speed of memory.
 */
import { size } from "../../tensor/shape.ts";
import type { Dnnl, Unary } from "./api.ts";
import type { Context, Kernel } from "./context.ts";
import { ARGUMENT, type Description, ELEMENT, FORWARD } from "./primitive.ts";

/** Below so many elements the wasm engine is as fast. */
const SMALL = 2 ** 12;

/** By the names of TensorFlow.js's kernels. */
const FUNCTIONS: Record<string, Unary["name"]> = {
  Exp: "exp",
  Log: "log",
  Sigmoid: "logistic",
  Sqrt: "sqrt",
  Tanh: "tanh",
};

function describe(dnnl: Dnnl, name: Unary["name"], length: number): Description {
  const x = dnnl.memory([length], [1]);
  return {
    description: dnnl.describe("unary", [FORWARD, dnnl.unary(name), x, x, 0, 0]),
    operands: [
      { argument: ARGUMENT.source, memory: x },
      { argument: ARGUMENT.destination, memory: x },
    ],
  };
}

/** TensorFlow.js's kernels by their names. */
export function unaryKernels({ dnnl, primitives, at }: Context): Record<string, Kernel> {
  const kernel = (name: Unary["name"]): Kernel => (call, shipped) => {
    const { x } = call.inputs, length = size(x.shape);
    if (length < SMALL) return shipped(call);
    const y = call.backend.makeOutput(x.shape, "float32");
    const key = `${name} ${length}`;
    primitives.run(key, ELEMENT * length, () => describe(dnnl, name, length), [x, y].map(at));
    return y;
  };
  return Object.fromEntries(
    Object.entries(FUNCTIONS).map(([kernelName, name]) => [kernelName, kernel(name)]),
  );
}
