/** Matrix products of oneDNN: transposes are strides, batches broadcast. */
import * as tf from "@tensorflow/tfjs";
import { type Shape, size } from "../../tensor/shape.ts";
import { floats } from "../wasm/compose.ts";
import type { Dnnl, Unary } from "./api.ts";
import { activationOf, type Context, finish, type Kernel } from "./context.ts";
import { ARGUMENT, type Description } from "./primitive.ts";

/** op(A) `[...batch, m, k]` · op(B) `[...batch, k, n]`; a batch may be shorter, or 1 where the other is not. */
export interface Product {
  aBatch: Shape;
  bBatch: Shape;
  batch: Shape;
  m: number;
  k: number;
  n: number;
  transposeA: boolean;
  transposeB: boolean;
}

/** Everything that distinguishes one product from another. */
export function keyOf({ aBatch, bBatch, m, k, n, transposeA, transposeB }: Product): string {
  return `${aBatch}|${bBatch}|${m},${k},${n}${transposeA ? "T" : ""}${transposeB ? "t" : ""}`;
}

/** A matrix for each index of a batch, one after another; transposed it is the same memory by columns. */
function matrices(
  dnnl: Dnnl,
  axes: number,
  batch: Shape,
  rows: number,
  columns: number,
  transposed: boolean,
) {
  const lead = [...Array(axes - batch.length).fill(1), ...batch];
  const steps = lead.map((_, axis) => size(lead.slice(axis + 1)) * rows * columns);
  return dnnl.memory([...lead, rows, columns], [
    ...steps,
    ...(transposed ? [1, rows] : [columns, 1]),
  ]);
}

/** The primitive, with operands in the order A, B, result and then the bias `[n]` if there is one. */
export function product(
  dnnl: Dnnl,
  { aBatch, bBatch, batch, m, k, n, transposeA, transposeB }: Product,
  more: { bias?: boolean; activation?: Unary; sum?: boolean } = {},
): Description {
  const axes = batch.length;
  const a = matrices(dnnl, axes, aBatch, m, k, transposeA);
  const b = matrices(dnnl, axes, bBatch, k, n, transposeB);
  const c = matrices(dnnl, axes, batch, m, n, false);
  const bias = more.bias ? matrices(dnnl, axes, [], 1, n, false) : 0;
  const behind = more.sum ? "sum" : more.activation, attributes = behind && dnnl.attributes(behind);
  return {
    description: dnnl.describe("product", [a, b, bias, c], { attributes }),
    operands: [
      { argument: ARGUMENT.source, memory: a },
      { argument: ARGUMENT.weights, memory: b },
      { argument: ARGUMENT.destination, memory: c },
      ...(more.bias ? [{ argument: ARGUMENT.bias, memory: bias }] : []),
    ],
  };
}

/** TensorFlow.js's kernel for matrix products, fused or not. */
export function productKernel({ dnnl, primitives, at }: Context): Kernel {
  return (call, shipped) => {
    const { inputs: { a, b, bias }, attrs, backend } = call;
    const transposeA = attrs.transposeA === true, transposeB = attrs.transposeB === true;
    const [aRows, aColumns] = a.shape.slice(-2), [bRows, bColumns] = b.shape.slice(-2);
    const [m, k] = transposeA ? [aColumns, aRows] : [aRows, aColumns];
    const n = transposeB ? bRows : bColumns;
    const aBatch = a.shape.slice(0, -2), bBatch = b.shape.slice(0, -2);
    const batch = tf.broadcast_util.assertAndGetBroadcastShape(aBatch, bBatch);
    if (bias && size(bias.shape) !== n) return shipped(call);
    const y = backend.makeOutput([...batch, m, n], "float32");
    // one matrix B for the rows of every A: one product of all rows
    const shape: Product = !transposeA && size(bBatch) === 1
      ? { aBatch: [], bBatch: [], batch: [], m: size(batch) * m, k, n, transposeA, transposeB }
      : { aBatch, bBatch, batch, m, k, n, transposeA, transposeB };
    const more = { bias: Boolean(bias), activation: activationOf(attrs) };
    primitives.run(
      `AB ${keyOf(shape)} ${JSON.stringify(more)}`,
      2 * size(shape.batch) * shape.m * k * n,
      () => product(dnnl, shape, more),
      [a, b, y, ...(more.bias ? [bias] : [])].map(at),
    );
    return finish(call, y);
  };
}

/** Rows of A from which a product is faster as a convolution by a point, whose weights oneDNN arranges as it likes. */
const TALL = 2048;

/** The product as a convolution of an image one place wide, for a tall matrix A and one B as they are, with a bias. */
export function tall(product: Kernel, convolution: Kernel): Kernel {
  return (call, shipped) => {
    const { inputs: { a, b, bias }, attrs } = call, [k, n] = b.shape.slice(-2);
    const rows = size(a.shape) / k, plain = !attrs.transposeA && !attrs.transposeB;
    const odd = attrs.activation === "prelu" || size(b.shape) !== k * n || !bias;
    if (rows < TALL || !plain || odd || size(bias.shape) !== n) return product(call, shipped);
    const x = { ...a, shape: [1, rows, 1, k] }, filter = { ...b, shape: [1, 1, k, n] };
    const moves = { strides: 1, dilations: 1, pad: "valid" };
    const one = { ...call, inputs: { x, filter, bias }, attrs: { ...attrs, ...moves } };
    return { ...convolution(one, shipped), shape: [...a.shape.slice(0, -1), n] };
  };
}

/** A · B + C, of matrices over the last axis: the product is added to a copy of C. */
export function multiplyAddKernel({ dnnl, primitives, at }: Context): Kernel {
  return ({ inputs: { a, b, c }, backend }) => {
    const [k, n] = b.shape, m = size(c.shape) / n;
    const shape = { aBatch: [], bBatch: [], batch: [], m, k, n };
    const plain: Product = { ...shape, transposeA: false, transposeB: false };
    const y = backend.makeOutput(c.shape, "float32");
    floats(backend, y).set(floats(backend, c));
    primitives.run(
      `AB+C ${keyOf(plain)}`,
      2 * m * k * n,
      () => product(dnnl, plain, { sum: true }),
      [a, b, y].map(at),
    );
    return y;
  };
}
