/** Every engine's convolution kernels, forward and backward, against im2col on the cpu backend. */
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as engine from "../../lib/engines/engine.ts";
import { NATIVE } from "../../lib/tensor/convolve.ts";
import { extent } from "../../lib/tensor/geometry.ts";
import { outputs } from "../../lib/tensor/shape.ts";
import { kernelMatrix, unfold } from "../../lib/tensor/unfold.ts";
import { close, leakless } from "../support/close.ts";
import { type Place, PLACES, values } from "../support/geometries.ts";

/** What the kernels of a place are called, and the filter as they take it. */
function kernels({ kernel, geometry: { groups = 1 } }: Place) {
  if (kernel.length === 5) {
    return { names: ["Conv3D", "Conv3DBackpropInputV2", "Conv3DBackpropFilterV2"], filter: kernel };
  }
  if (groups > 1 && kernel[2] === 1) {
    const filter = [kernel[0], kernel[1], groups, outputs(kernel) / groups];
    const name = "DepthwiseConv2dNative";
    return { names: [name, `${name}BackpropInput`, `${name}BackpropFilter`], filter };
  }
  return { names: ["Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"], filter: kernel };
}

const place = (
  name: string,
  kernel: number[],
  x: number[],
  geometry: Place["geometry"],
): Place => ({
  name,
  kernel,
  x,
  geometry,
});

/** Besides the places where every algorithm is tried: what these kernels treat by itself. */
const places: Place[] = [
  ...PLACES.filter(({ kernel }) => kernel.length > 3),
  place("3×3 stride 3, remainder", [3, 3, 2, 3], [2, 8, 10, 2], { strides: 3 }),
  place("2×2 stride 3", [2, 2, 2, 3], [2, 8, 7, 2], { strides: 3 }),
  place("1 channel", [3, 3, 1, 4], [3, 7, 7, 1], { padding: "same" }),
  place("many channels", [3, 3, 64, 72], [2, 9, 8, 64], { padding: 1 }),
  place("zeros wider than the kernel", [1, 1, 3, 2], [2, 3, 4, 3], { padding: 2 }),
  place("5×5 dilation 3, wide zeros", [5, 5, 6, 8], [2, 9, 8, 6], { padding: 6, dilations: 3 }),
  place("depthwise of 8 channels, stride 2", [3, 3, 1, 8], [2, 7, 6, 8], {
    groups: 8,
    padding: "same",
    strides: 2,
  }),
  place("depthwise 5×5 dilation 2", [5, 5, 1, 3], [2, 12, 11, 3], {
    groups: 3,
    padding: "same",
    dilations: 2,
  }),
  place("depthwise, dilation 2, stride 2, three outputs each", [3, 3, 1, 6], [2, 9, 8, 2], {
    groups: 2,
    padding: 1,
    dilations: 2,
    strides: 2,
  }),
  place("conv3d dilation 2, stride 2", [2, 3, 2, 3, 4], [2, 6, 7, 5, 3], {
    padding: 1,
    dilations: [2, 1, 2],
    strides: [1, 2, 2],
  }),
];

/** unfold(x) · kernelMatrix(W): the definition, which knows every geometry. */
function convolve(x: tf.Tensor, kernel: tf.Tensor, geometry: Place["geometry"]): tf.Tensor {
  const { groups, output } = extent(kernel.shape, x.shape.slice(1, -1), geometry);
  const y = tf.matMul(unfold(x, kernel.shape, geometry), kernelMatrix(kernel, groups));
  const rows = groups === 1 ? y : tf.transpose(y, [1, 0, 2]); // [G, N·out, O/G] -> [N·out, G, O/G]
  return tf.reshape(rows, [x.shape[0], ...output, outputs(kernel.shape)]);
}

/** y, ∂L/∂x and ∂L/∂W of a place for given x, W and dy, by im2col. */
function definition({ x, kernel, geometry }: Place) {
  const input = tf.tensor(values(x, 1), [...x]), filter = tf.tensor(values(kernel, 2), [...kernel]);
  const y = convolve(input, filter, geometry);
  const dy = tf.tensor(values(y.shape, 3), y.shape);
  const [dx, dw] = tf.grads((x, w) => convolve(x, w, geometry))([input, filter], dy);
  return { y, dx, dw, dy };
}

for (const { name, available } of await engine.list()) {
  if (available === true) await engine.use(name);
  else console.log(`${name} is skipped: ${available}`);
  if (available !== true) continue;
  const can = NATIVE.get(name) ?? { groups: false, dilations: false };
  const convolution = suite(`${name} convolution`);
  const expected = new Map<Place, ReturnType<typeof definition>>();
  convolution.before(async () => {
    await tf.setBackend("cpu");
    for (const place of places) expected.set(place, definition(place));
    await engine.use(name);
  });
  convolution.after(() => tf.dispose([...expected.values()].map((tensors) => ({ ...tensors }))));
  leakless(convolution);

  for (const place of places) {
    const { names, filter: shape } = kernels(place), { geometry } = place;
    const grouped = (geometry.groups ?? 1) > 1 && names[0] !== "DepthwiseConv2dNative";
    const explicit = place.kernel.length === 4 || name !== "cpu" || !place.geometry.padding;
    const able = explicit && (!grouped || can.groups) && (!geometry.dilations || can.dilations);
    if (!able) continue; // lib/tensor/convolve.ts does not ask for it
    convolution(place.name, () => {
      const { y, dx, dw, dy } = expected.get(place)!;
      const at = extent(place.kernel, place.x.slice(1, -1), geometry);
      const attributes = {
        strides: at.strides,
        dilations: at.dilations,
        pad: [[0, 0], ...at.padding, [0, 0]],
        dataFormat: place.x.length === 5 ? "NDHWC" : "NHWC",
        groups: at.groups,
      };
      const x = tf.tensor(values(place.x, 1), [...place.x]);
      const filter = tf.tensor(values(shape, 2), [...shape]);
      const run = (index: number, inputs: tf.NamedTensorMap, more: object = {}) =>
        tf.engine().runKernel(
          names[index],
          inputs,
          { ...attributes, ...more } as unknown as tf.NamedAttrMap,
        ) as tf.Tensor;
      close(run(0, { x, filter }), y, "value", "y");
      close(run(1, { dy, filter }, { inputShape: place.x }), dx, "gradient", "dx");
      const gradient = run(2, { x, dy }, { filterShape: shape });
      close(tf.reshape(gradient, dw.shape), dw, "gradient", "dw");
    });
  }
  convolution.run();
}
