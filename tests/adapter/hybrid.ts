/** What of the hybrid route the laws do not meet. */
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import { type Adapter, create, mapFactors, tensors } from "../../lib/adapter/adapter.ts";
import { forward } from "../../lib/adapter/forward.ts";
import type { Route } from "../../lib/adapter/route.ts";
import { view } from "../../lib/adapter/view.ts";
import * as engine from "../../lib/engines/engine.ts";
import { close, leakless } from "../support/close.ts";
import { values } from "../support/geometries.ts";

await engine.use();

const SHAPE = [3, 3, 4, 6];
const tensor = (shape: number[], seed: number) => tf.tensor(values(shape, seed), shape);

/** The output, and the gradients of the input and of every factor. */
function outcome(adapter: Adapter, route: Route): tf.Tensor[] {
  const x = tensor([2, 7, 5, 4], 1), kernel = tensor(SHAPE, 2), bias = tensor([6], 3);
  const names = tensors(adapter).map(([name]) => name);
  const factors = tensors(adapter).map(([, factor]) => factor);
  const run = (x: tf.Tensor, ...all: tf.Tensor[]) => {
    const own = mapFactors(adapter, (_, name) => all[names.indexOf(name)]);
    const parts = [{ view: view(own)!, strength: 1 }];
    return forward(x, { kernel, geometry: { padding: "same" }, bias }, parts, route);
  };
  const y = run(x, ...factors);
  return [y, ...tf.grads(run)([x, ...factors], tensor(y.shape, 4))];
}

const hybrid = suite("forward() by hybrid");
leakless(hybrid);
for (
  const [name, numbers] of [["off", -1], ["almost off", -0.9999], ["turned round", -3]] as const
) {
  hybrid(`of (IA)^3 is bypass where a channel is ${name}`, () => {
    const born = create("ia3", SHAPE, 0);
    const adapter = mapFactors(born, () => tf.tensor([0.5, numbers, 0, -0.2, 0.1, 1], [1, 6]));
    const [bypass, own] = [outcome(adapter, "bypass"), outcome(adapter, "hybrid")];
    bypass.forEach((expected, i) => close(own[i], expected, i === 0 ? "value" : "gradient"));
  });
}
hybrid.run();
