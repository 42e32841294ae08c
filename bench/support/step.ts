/** Training steps of a layer, as a user of the library makes them, to be timed. */
import * as tf from "@tensorflow/tfjs";
import { type Adapter, dispose } from "../../lib/adapter/adapter.ts";
import { forward } from "../../lib/adapter/forward.ts";
import type { Route } from "../../lib/adapter/route.ts";
import { attach } from "../../lib/layers/attach.ts";
import { createFor } from "../../lib/layers/born.ts";
import { outputs } from "../../lib/tensor/shape.ts";
import type { Place, Way } from "./cases.ts";

/** One training step, and how to give its memory back. */
export interface Step {
  run(): void;
  dispose(): void;
}

/** The step of one layer. */
export interface LayerStep extends Step {
  /** on the layer, if one is */
  readonly adapter?: Adapter;
  /** the forward pass alone, as in use */
  forward(): void;
}

/** How an adapted layer is trained. */
export interface StepOptions {
  rank?: number;
  route?: Route;
}

/** A built layer with a random kernel and bias, and an input. */
function frozen({ x, kernel }: Place): { layer: tf.layers.Layer; x: tf.Tensor } {
  const inputShape = x.slice(1), O = outputs(kernel);
  const layer = kernel.length === 2 ? tf.layers.dense({ units: O, inputShape }) : tf.layers.conv2d({
    filters: O,
    kernelSize: [kernel[0], kernel[1]],
    padding: "same",
    inputShape,
  });
  tf.sequential({ layers: [layer] });
  return { layer, x: tf.randomNormal(x, 0, 0.1) };
}

/**
 * Forward and backward of a layer: the gradients of its input and of every factor, the base frozen.
 *
 * Nothing is read, so this times engines on the CPU, which have computed when a kernel returns.
 *
 * @param options.route forced; left out, what the library chooses
 */
export function step(place: Place, way: Way, { rank = 0, route }: StepOptions = {}): LayerStep {
  const { layer, x } = frozen(place);
  const adapter = way.algorithm &&
    createFor(layer, way.algorithm, way.ranked ? rank : 0, way.options ?? {});
  const [W, bias] = layer.getWeights(), geometry = { padding: "same" as const };
  const attached = adapter && attach(layer, adapter, { route });
  const factors = attached ? layer.trainableWeights.map((weight) => weight.read()) : [];
  // alone it is computed as where it has adapters: tf.layers' fused kernel has no gradient for x only
  const output = (training: boolean) =>
    attached
      ? layer.apply(x, { training }) as tf.Tensor
      : forward(x, { kernel: W, geometry, bias }, [], "bypass");
  const dy = tf.tidy(() => tf.randomNormal(output(true).shape, 0, 0.1));
  return {
    adapter: attached?.adapter,
    run() {
      const { value, grads } = tf.engine().gradients(() => output(true), [x, ...factors], dy);
      tf.dispose([value, ...grads.filter((gradient) => gradient)]);
    },
    forward: () => tf.tidy(() => void output(false)),
    dispose() {
      attached?.detach();
      if (adapter) dispose(adapter);
      layer.dispose();
      tf.dispose([x, dy]);
    },
  };
}
