/** TensorFlow.js's kernels on oneDNN: shapes and attributes in, addresses out. */
import * as tf from "@tensorflow/tfjs";
import { type Shape, size } from "../../tensor/shape.ts";
import { axes } from "../axes.ts";
import type { Foreign } from "../ffi.ts";
import type { Backend, Call } from "../wasm/compose.ts";
import type { Activation, Dnnl } from "./api.ts";
import { binary, type Operation, OPERATIONS, pair } from "./binary.ts";
import * as convolutions from "./convolution.ts";
import * as products from "./product.ts";
import type { Primitives } from "./primitive.ts";

/** A kernel; `shipped` is the one that the wasm backend has, if any. */
export type Kernel = (call: Call, shipped: (call: Call) => tf.TensorInfo) => tf.TensorInfo;

/** Below so many elements the wasm backend's own elementwise kernels are faster than a call abroad. */
const SMALL = 16384;

/** Where a tensor lies in this process: the heap may have moved since the last call. */
export function addresses(backend: Backend, ffi: Foreign): (tensor: tf.TensorInfo) => number {
  let heap: ArrayBufferLike | undefined, base = 0;
  return (tensor) => {
    const { HEAPU8 } = backend.wasm;
    if (HEAPU8.buffer !== heap) {
      heap = HEAPU8.buffer;
      base = ffi.address(HEAPU8);
    }
    return base + backend.getMemoryOffset(tensor.dataId);
  };
}

/** An activation that oneDNN computes with the product, by TensorFlow.js's name. */
function fused(attributes: Record<string, unknown>): Activation | undefined {
  switch (attributes.activation) {
    case "relu":
      return { name: "relu", alpha: 0, beta: 0 };
    case "leakyrelu":
      return { name: "relu", alpha: attributes.leakyreluAlpha as number, beta: 0 };
    case "relu6":
      return { name: "clip", alpha: 0, beta: 6 };
    case "elu":
      return { name: "elu", alpha: 1, beta: 0 };
    case "sigmoid":
      return { name: "logistic", alpha: 0, beta: 0 };
  }
}

/** Every kernel that oneDNN takes over, by its name. */
export function kernels(
  dnnl: Dnnl,
  primitives: Primitives,
  at: (tensor: tf.TensorInfo) => number,
): Record<string, Kernel> {
  /** `[kh, kw, C, M]` is `[kh, kw, 1, C·M]` in C groups: the same numbers in the same order. */
  const grouped = (filter: Shape, channels: number, depthwise: boolean) => {
    const shape = depthwise ? [...filter.slice(0, -2), 1, channels * filter[3]] : filter;
    return { filter: shape, groups: channels / shape[shape.length - 2] };
  };

  const forward = (depthwise: boolean): Kernel => (call, shipped) => {
    const { inputs, attrs, backend } = call;
    const { dimRoundingMode = "floor" } = attrs;
    if (dimRoundingMode !== "floor" && dimRoundingMode !== null) return shipped(call);
    const { x, filter, bias, preluActivationWeights: alpha } = inputs;
    const sizes = grouped(filter.shape, x.shape[x.shape.length - 1], depthwise);
    const line = axes(x.shape, sizes.filter, attrs);
    const [batch] = x.shape, outputs = sizes.filter[sizes.filter.length - 1];
    const y = backend.makeOutput([batch, ...line.map(({ output }) => output), outputs], "float32");
    const shape = { batch, axes: line, ...sizes }, activation = fused(attrs);
    primitives.run(
      `y ${convolutions.keyOf(shape)} ${bias ? "+" : ""}${
        activation ? JSON.stringify(activation) : ""
      }`,
      () => convolutions.convolution(dnnl, "forward", shape, { bias: Boolean(bias), activation }),
      bias ? [at(x), at(filter), at(y), at(bias)] : [at(x), at(filter), at(y)],
    );
    return attrs.activation === "prelu" ? prelu(backend, y, alpha) : y;
  };

  const input = (depthwise: boolean): Kernel => ({ inputs: { dy, filter }, attrs, backend }) => {
    const x = attrs.inputShape as Shape;
    const sizes = grouped(filter.shape, x[x.length - 1], depthwise);
    const shape = { batch: x[0], axes: axes(x, sizes.filter, attrs, dy.shape), ...sizes };
    const dx = backend.makeOutput([...x], "float32");
    primitives.run(
      `x ${convolutions.keyOf(shape)}`,
      () => convolutions.convolution(dnnl, "input", shape),
      [at(dx), at(filter), at(dy)],
    );
    return dx;
  };

  const filter = (depthwise: boolean): Kernel => ({ inputs: { x, dy }, attrs, backend }) => {
    const filter = attrs.filterShape as Shape;
    const sizes = grouped(filter, x.shape[x.shape.length - 1], depthwise);
    const shape = {
      batch: x.shape[0],
      axes: axes(x.shape, sizes.filter, attrs, dy.shape),
      ...sizes,
    };
    const dW = backend.makeOutput([...filter], "float32");
    primitives.run(
      `W ${convolutions.keyOf(shape)}`,
      () => convolutions.convolution(dnnl, "filter", shape),
      [at(x), at(dW), at(dy)],
    );
    return dW;
  };

  const product: Kernel = ({ inputs, attrs, backend }) => {
    const { a, b, bias, preluActivationWeights: alpha } = inputs;
    const transposeA = attrs.transposeA === true, transposeB = attrs.transposeB === true;
    const [aRows, aColumns] = a.shape.slice(-2), [bRows, bColumns] = b.shape.slice(-2);
    const [m, k] = transposeA ? [aColumns, aRows] : [aRows, aColumns];
    const n = transposeB ? bRows : bColumns;
    const aBatch = a.shape.slice(0, -2), bBatch = b.shape.slice(0, -2);
    const batch = tf.broadcast_util.assertAndGetBroadcastShape(aBatch, bBatch);
    const y = backend.makeOutput([...batch, m, n], "float32");
    // one matrix B for every row of A: one product of all rows
    const flat = !transposeA && size(bBatch) === 1;
    const shape: products.Product = flat
      ? { aBatch: [], bBatch: [], batch: [], m: size(aBatch) * m, k, n, transposeA, transposeB }
      : { aBatch, bBatch, batch, m, k, n, transposeA, transposeB };
    const activation = fused(attrs);
    primitives.run(
      `m ${products.keyOf(shape)} ${bias ? "+" : ""}${
        activation ? JSON.stringify(activation) : ""
      }`,
      () => products.product(dnnl, shape, { bias: Boolean(bias), activation }),
      bias ? [at(a), at(b), at(y), at(bias)] : [at(a), at(b), at(y)],
    );
    return attrs.activation === "prelu" ? prelu(backend, y, alpha) : y;
  };

  const elementwise = (operation: Operation): Kernel => (call, shipped) => {
    let { a, b } = call.inputs;
    const commutes = operation === "Add" || operation === "Multiply";
    if (commutes && size(b.shape) > size(a.shape)) [a, b] = [b, a];
    const shape = size(a.shape) >= SMALL ? pair(a.shape, b.shape) : undefined;
    if (!shape) return shipped(call);
    const y = call.backend.makeOutput(a.shape, "float32");
    primitives.run(
      `${operation} ${shape.rows} ${shape.columns} ${shape.b}`,
      () => binary(dnnl, operation, shape),
      [at(a), at(b), at(y)],
    );
    return y;
  };

  return {
    Conv2D: forward(false),
    FusedConv2D: forward(false),
    Conv2DBackpropInput: input(false),
    Conv2DBackpropFilter: filter(false),
    Conv3D: forward(false),
    Conv3DBackpropInputV2: input(false),
    Conv3DBackpropFilterV2: filter(false),
    DepthwiseConv2dNative: forward(true),
    FusedDepthwiseConv2D: forward(true),
    DepthwiseConv2dNativeBackpropInput: input(true),
    DepthwiseConv2dNativeBackpropFilter: filter(true),
    BatchMatMul: product,
    _FusedMatMul: product,
    ...Object.fromEntries(
      (Object.keys(OPERATIONS) as Operation[]).map((name) => [name, elementwise(name)]),
    ),
  };
}

/** The one activation with weights of its own, by the wasm backend's kernel. */
function prelu(backend: Backend, x: tf.TensorInfo, alpha: tf.TensorInfo): tf.TensorInfo {
  const { kernelFunc } = tf.getKernel("Prelu", "wasm");
  const inputs = { x, alpha };
  const y = kernelFunc({ inputs, backend }) as tf.TensorInfo;
  backend.disposeData(x.dataId);
  return y;
}
