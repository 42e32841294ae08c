/** Puts the kernels of this folder into the `wasm` backend. */
import * as tf from "@tensorflow/tfjs";
import { ADAM, COLUMN_DOT } from "../../tensor/fused.ts";
import { adam } from "./adam.ts";
import { columnDot } from "./columns.ts";
import type { Call } from "./compose.ts";
import { backpropFilter, backpropInput, depthwiseBackpropInput } from "./convolution.ts";
import { convolution, depthBackpropFilter, depthBackpropInput } from "./depth.ts";
import { depthwiseBackpropFilter } from "./depthwise.ts";
import { avgPoolGradient, maxPoolGradient } from "./pool.ts";
import { product } from "./product.ts";
import { cast, identity } from "./reference.ts";
import { segmentSum } from "./segments.ts";
import { slice } from "./slice.ts";
import { mean, sum } from "./sum.ts";
import { tile } from "./tile.ts";

/** A kernel; where the backend has one of that name already, it is there to fall back on. */
type Kernel = (
  call: Call,
  shipped: (call: Call) => tf.TensorInfo,
) => tf.TensorInfo | tf.TensorInfo[];

const KERNELS: Record<string, Kernel> = {
  AvgPoolGrad: avgPoolGradient,
  BatchMatMul: product,
  Cast: cast,
  Conv2DBackpropFilter: backpropFilter,
  Conv2DBackpropInput: backpropInput,
  Conv3D: convolution,
  Conv3DBackpropFilterV2: depthBackpropFilter,
  Conv3DBackpropInputV2: depthBackpropInput,
  DepthwiseConv2dNativeBackpropFilter: depthwiseBackpropFilter,
  DepthwiseConv2dNativeBackpropInput: depthwiseBackpropInput,
  Identity: identity,
  [COLUMN_DOT]: columnDot,
  [ADAM]: adam,
  MaxPoolGrad: maxPoolGradient,
  Mean: mean,
  Slice: slice,
  Sum: sum,
  Tile: tile,
  UnsortedSegmentSum: segmentSum,
};

let installed = false;

/** Registers every kernel of this folder with the backend, over what it has; a second time does nothing. */
export function install(): void {
  if (installed) return;
  installed = true;
  const backendName = "wasm";
  for (const [kernelName, kernel] of Object.entries(KERNELS)) {
    const shipped = tf.getKernel(kernelName, backendName);
    if (shipped) tf.unregisterKernel(kernelName, backendName);
    const fallback = shipped?.kernelFunc as unknown as (call: Call) => tf.TensorInfo;
    const kernelFunc = (call: unknown) => kernel(call as Call, fallback);
    tf.registerKernel({ kernelName, backendName, kernelFunc, setupFunc: shipped?.setupFunc });
  }
}
