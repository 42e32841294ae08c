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

/** Three kernels, y, ∂L/∂x and ∂L/∂W, and the shape of the filter as they take it. */
interface Form {
  names: [y: string, dx: string, dW: string];
  filter: readonly number[];
}

const gradients = (name: string, suffix = ""): Form["names"] => [
  name,
  `${name}BackpropInput${suffix}`,
  `${name}BackpropFilter${suffix}`,
];

/** The kernels that compute a place on an engine; none where lib/tensor/convolve.ts would not ask for it. */
function forms({ kernel, geometry }: Place, engine: string): Form[] {
  const { groups = 1, dilations = 1, padding = 0 } = geometry;
  const can = NATIVE.get(engine) ?? { groups: false, dilations: false };
  if (dilations !== 1 && !can.dilations) return [];
  const plane = kernel.length === 4, all: Form[] = [];
  if (groups === 1 || can.groups) {
    const names = plane ? gradients("Conv2D") : gradients("Conv3D", "V2");
    if (plane || padding === 0 || !["cpu", "webgpu"].includes(engine)) {
      all.push({ names, filter: kernel });
    }
  }
  if (plane && groups > 1 && kernel[2] === 1) {
    const filter = [kernel[0], kernel[1], groups, outputs(kernel) / groups];
    all.push({ names: gradients("DepthwiseConv2dNative"), filter });
  }
  return all;
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
  const [dx, dW] = tf.grads((x, w) => convolve(x, w, geometry))([input, filter], dy);
  return { y, dx, dW, dy };
}

for (const { name, available } of await engine.list()) {
  if (available !== true) {
    console.log(`${name} is skipped: ${available}`);
    continue;
  }
  await engine.use(name);
  const convolution = suite(`${name}:`);
  const expected = new Map<Place, ReturnType<typeof definition>>();
  convolution.before(async () => {
    await tf.setBackend("cpu");
    for (const place of places) expected.set(place, definition(place));
    await engine.use(name);
  });
  convolution.after(() => tf.dispose([...expected.values()].map((tensors) => ({ ...tensors }))));
  leakless(convolution);

  for (const place of places) {
    for (const { names, filter: shape } of forms(place, name)) {
      convolution(`${names[0]} ${place.name}`, () => {
        const { y, dx, dW, dy } = expected.get(place)!;
        const at = extent(place.kernel, place.x.slice(1, -1), place.geometry);
        const attributes = {
          strides: at.strides,
          dilations: at.dilations,
          pad: [[0, 0], ...at.padding, [0, 0]],
          dataFormat: place.x.length === 5 ? "NDHWC" : "NHWC",
          groups: at.groups,
          inputShape: place.x,
          filterShape: shape,
        };
        const x = tf.tensor(values(place.x, 1), [...place.x]);
        const filter = tf.tensor(values(shape, 2), [...shape]);
        const run = (kernel: string, inputs: tf.NamedTensorMap) =>
          tf.engine().runKernel(kernel, inputs, attributes as unknown as tf.NamedAttrMap);
        const value = run(names[0], { x, filter }) as tf.Tensor;
        const input = run(names[1], { dy, filter }) as tf.Tensor;
        const weights = run(names[2], { x, dy }) as tf.Tensor;
        close(value, y, "value", "y");
        close(input, dx, "gradient", "dx");
        close(tf.reshape(weights, dW.shape), dW, "gradient", "dW");
      });
    }
  }
  convolution.run();
}
