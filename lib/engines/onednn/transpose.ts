/** The exchange of axes, as oneDNN's copy from one layout into another. */
import { type Shape, size } from "../../tensor/shape.ts";
import type { Dnnl } from "./api.ts";
import type { Context, Kernel } from "./context.ts";
import { ARGUMENT, type Description, ELEMENT } from "./primitive.ts";

/** Below so many elements the wasm engine is as fast. */
const SMALL = 2 ** 13;

/** From x, whose axes are looked at in another order, into memory where that is the order. */
function describe(dnnl: Dnnl, shape: Shape, order: readonly number[]): Description {
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

/** Without axes of length 1, whose place changes nothing. */
function squeezed(shape: Shape, order: readonly number[]) {
  const kept = shape.map((_, axis) => axis).filter((axis) => shape[axis] !== 1);
  return {
    lengths: kept.map((axis) => shape[axis]),
    order: order.filter((axis) => shape[axis] !== 1).map((axis) => kept.indexOf(axis)),
  };
}

/** TensorFlow.js's kernel. */
export function transposeKernel({ dnnl, primitives, at }: Context): Kernel {
  return (call, shipped) => {
    const { inputs: { x }, attrs, backend } = call, perm = attrs.perm as number[];
    const { lengths, order } = squeezed(x.shape, perm);
    if (size(lengths) < SMALL || order.every((axis, at) => axis === at)) return shipped(call);
    const y = backend.makeOutput(perm.map((axis) => x.shape[axis]), "float32");
    primitives.run(
      `transpose ${lengths} ${order}`,
      ELEMENT * size(lengths),
      () => describe(dnnl, lengths, order),
      [x, y].map(at),
    );
    return y;
  };
}
