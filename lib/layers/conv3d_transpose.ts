/** The gradient that TensorFlow.js lacks for a Conv3DTranspose; with Conv2DTranspose's it has come itself. */
import * as tf from "@tensorflow/tfjs";

const KERNEL = "Conv3DBackpropInputV2";

// y = op*(dy; W) is linear in both: ⟨G, y⟩ = ⟨op(G; W), dy⟩
if (!tf.getGradient(KERNEL)) {
  tf.registerGradient({
    kernelName: KERNEL,
    inputsToSave: ["dy", "filter"],
    gradFunc: (G, [dy, filter], attributes) => {
      const { strides, pad } = attributes as { strides: [number, number, number]; pad: "same" };
      const { shape: filterShape } = filter, inputs = { x: G as tf.Tensor, dy };
      return {
        dy: () => tf.conv3d(G as tf.Tensor5D, filter as tf.Tensor5D, strides, pad),
        filter: () =>
          tf.engine().runKernel("Conv3DBackpropFilterV2", inputs, { strides, pad, filterShape }),
      };
    },
  });
}
