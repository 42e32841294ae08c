/** What oneDNN does to whole rows: softmax, and the exchange of axes. */
import { type Shape, size } from "../../tensor/shape.ts";
import type { Dnnl } from "./api.ts";
import type { Context, Kernel } from "./context.ts";
import { ARGUMENT, type Description, ELEMENT, FORWARD } from "./primitive.ts";

/** Below so many elements the wasm engine is as fast. */
const SMALL = 2 ** 13;

const ACCURATE = 0x30000; // dnnl_softmax_accurate

function describeSoftmax(dnnl: Dnnl, rows: number, columns: number): Description {
  const x = dnnl.memory([rows, columns], [columns, 1]);
  return {
    description: dnnl.describe("softmax", [FORWARD, ACCURATE, x, x, 1]),
    operands: [
      { argument: ARGUMENT.source, memory: x },
      { argument: ARGUMENT.destination, memory: x },
    ],
  };
}

/** A copy from x, whose axes are looked at in another order, into memory where that is the order. */
function describeTranspose(dnnl: Dnnl, shape: Shape, order: readonly number[]): Description {
  const steps = (shape: Shape) => shape.map((_, axis) => size(shape.slice(axis + 1)));
  const from = steps(shape), turned = order.map((axis) => shape[axis]);
  const x = dnnl.memory(turned, order.map((axis) => from[axis]));
  const y = dnnl.memory(turned, steps(turned));
  return {
    description: dnnl.reorder(x, y),
    operands: [
      { argument: ARGUMENT.source, memory: x },
      { argument: ARGUMENT.destination, memory: y },
    ],
  };
}

/** Axes of length 1 left out, which changes no order. */
function squeezed(shape: Shape, order: readonly number[]) {
  const kept = shape.map((_, axis) => axis).filter((axis) => shape[axis] !== 1);
  return {
    lengths: kept.map((axis) => shape[axis]),
    order: order.filter((axis) => shape[axis] !== 1).map((axis) => kept.indexOf(axis)),
  };
}

/** TensorFlow.js's kernels by their names. */
export function rowKernels({ dnnl, primitives, at }: Context): Record<string, Kernel> {
  const softmax: Kernel = (call, shipped) => {
    const { inputs: { logits }, attrs: { dim }, backend } = call;
    const { shape } = logits, columns = shape[shape.length - 1], rows = size(shape) / columns;
    if (size(shape) < SMALL || (dim !== -1 && dim !== shape.length - 1)) return shipped(call);
    const y = backend.makeOutput(shape, "float32");
    const describe = () => describeSoftmax(dnnl, rows, columns);
    primitives.run(
      `softmax ${rows} ${columns}`,
      ELEMENT * rows * columns,
      describe,
      [logits, y].map(at),
    );
    return y;
  };

  const transpose: Kernel = (call, shipped) => {
    const { inputs: { x }, attrs, backend } = call;
    const { lengths, order } = squeezed(x.shape, attrs.perm as number[]);
    if (size(lengths) < SMALL || order.every((axis, at) => axis === at)) return shipped(call);
    const y = backend.makeOutput((attrs.perm as number[]).map((axis) => x.shape[axis]), "float32");
    const describe = () => describeTranspose(dnnl, lengths, order);
    const work = ELEMENT * size(lengths);
    primitives.run(`transpose ${lengths} ${order}`, work, describe, [x, y].map(at));
    return y;
  };
  return { Softmax: softmax, Transpose: transpose };
}
