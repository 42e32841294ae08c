/** The table of TensorFlow.js's kernels that oneDNN computes. */
import { MULTIPLY_ADD } from "../../tensor/fused.ts";
import type { Context, Kernel } from "./context.ts";
import { convolutionKernels } from "./convolution.ts";
import { multiplyAddKernel, productKernel, tall } from "./product.ts";
import { softmaxKernel } from "./softmax.ts";
import { transposeKernel } from "./transpose.ts";
import { unaryKernels } from "./unary.ts";

/** Every kernel by its name; all of them are for float32. */
export function kernels(context: Context): Record<string, Kernel> {
  const dense = convolutionKernels(context, false), depthwise = convolutionKernels(context, true);
  const product = productKernel(context);
  return {
    Conv2D: dense.forward,
    FusedConv2D: dense.forward,
    Conv2DBackpropInput: dense.backpropInput,
    Conv2DBackpropFilter: dense.backpropFilter,
    Conv3D: dense.forward,
    Conv3DBackpropInputV2: dense.backpropInput,
    Conv3DBackpropFilterV2: dense.backpropFilter,
    DepthwiseConv2dNative: depthwise.forward,
    FusedDepthwiseConv2D: depthwise.forward,
    DepthwiseConv2dNativeBackpropInput: depthwise.backpropInput,
    DepthwiseConv2dNativeBackpropFilter: depthwise.backpropFilter,
    BatchMatMul: product,
    _FusedMatMul: tall(product, dense.forward),
    [MULTIPLY_ADD]: multiplyAddKernel(context),
    Softmax: softmaxKernel(context),
    Transpose: transposeKernel(context),
    ...unaryKernels(context),
  };
}
