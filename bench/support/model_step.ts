/** A whole training step of the demo's network with an adapter on every layer: forward, loss, backward, Adam. */
import * as tf from "@tensorflow/tfjs";
import { adaptModel } from "../../lib/layers/model.ts";
import { convnet } from "../../lib/models/convnet.ts";
import { adam } from "../../lib/training/adam.ts";
import type { Way } from "./cases.ts";
import type { Step } from "./step.ts";

/** Images a step, as in the demo. */
export const BATCH = 64;

/** The step of a way; of the base alone, that of the whole network trained without adapters. */
export function modelStep({ way, rank }: { way: Way; rank: number }): Step {
  const model = convnet(), { algorithm, ranked, options } = way;
  const all = algorithm && adaptModel(algorithm, model, ranked ? rank : 0, options);
  const variables = model.trainableWeights.map((weight) => weight.read() as tf.Variable);
  const x = tf.randomUniform([BATCH, 28, 28, 1]);
  const y = tf.tidy(() => tf.oneHot(Array.from({ length: BATCH }, (_, i) => i % 10), 10));
  const optimizer = adam(1e-3);
  const loss = () =>
    tf.losses.softmaxCrossEntropy(y, model.apply(x, { training: true }) as tf.Tensor) as tf.Scalar;
  return {
    run() {
      const value = optimizer.minimize(loss, true, variables)!;
      value.dataSync();
      value.dispose();
    },
    dispose() {
      all?.detach();
      optimizer.dispose();
      model.dispose();
      tf.dispose([x, y]);
    },
  };
}
