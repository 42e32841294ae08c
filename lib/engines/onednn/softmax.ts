/** Softmax over the last axis, of oneDNN. */
import { size } from "../../tensor/shape.ts";
import type { Dnnl } from "./api.ts";
import type { Context, Kernel } from "./context.ts";
import { ARGUMENT, type Description, ELEMENT, FORWARD } from "./primitive.ts";

/** Below so many elements the wasm engine is as fast. */
const SMALL = 2 ** 13;

const ACCURATE = 0x30000; // dnnl_softmax_accurate

function describe(dnnl: Dnnl, rows: number, columns: number): Description {
  const x = dnnl.memory([rows, columns], [columns, 1]);
  return {
    description: dnnl.describe("softmax", [FORWARD, ACCURATE, x, x, 1]),
    operands: [
      { argument: ARGUMENT.source, memory: x },
      { argument: ARGUMENT.destination, memory: x },
    ],
  };
}

/** TensorFlow.js's kernel. */
export function softmaxKernel({ dnnl, primitives, at }: Context): Kernel {
  return (call, shipped) => {
    const { inputs: { logits }, attrs: { dim }, backend } = call;
    const { shape } = logits, columns = shape[shape.length - 1], rows = size(shape) / columns;
    if (size(shape) < SMALL || (dim !== -1 && dim !== shape.length - 1)) return shipped(call);
    const y = backend.makeOutput(shape, "float32");
    primitives.run(
      `softmax ${rows} ${columns}`,
      ELEMENT * size(shape),
      () => describe(dnnl, rows, columns),
      [logits, y].map(at),
    );
    return y;
  };
}
