/** The library's Adam beside TensorFlow.js's. */
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as engine from "../../lib/engines/engine.ts";
import { adam } from "../../lib/training/adam.ts";
import { close, leakless } from "../support/close.ts";
import { values } from "../support/geometries.ts";

await engine.use();

/** Five steps of some variables towards zero, of which the second sits one out. */
function trained(optimizer: tf.AdamOptimizer): tf.Tensor[] {
  const variables = [[3, 7], [2], [40]].map((shape, i) =>
    tf.variable(tf.tensor(values(shape, i), shape))
  );
  for (let step = 0; step < 5; step++) {
    const used = step === 2 ? [variables[0], variables[2]] : variables;
    const loss = () => tf.addN(used.map((variable) => tf.sum(tf.square(variable)))) as tf.Scalar;
    const { grads } = tf.variableGrads(loss, used);
    const none = variables.map(({ name }) => [name, undefined]);
    const all = { ...Object.fromEntries(none), ...grads } as tf.NamedTensorMap;
    optimizer.applyGradients(all as Parameters<typeof optimizer.applyGradients>[0]);
    tf.dispose(grads);
  }
  optimizer.dispose();
  const results = variables.map((variable) => tf.clone(variable));
  tf.dispose(variables);
  return results;
}

const own = suite("adam()");
leakless(own);
own("takes the steps of tf.train.adam(), and none for a variable without a gradient", () => {
  const expected = trained(tf.train.adam(0.1)), actual = trained(adam(0.1));
  expected.forEach((tensor, i) => close(actual[i], tensor));
});
own("counts its steps and keeps its moments as tf.train.adam() does", async () => {
  const kept = [];
  for (const optimizer of [tf.train.adam(0.1), adam(0.1)]) {
    const variable = tf.variable(tf.tensor1d(values([9], 1)), true, `adam_${kept.length}`);
    for (let i = 0; i < 3; i++) optimizer.minimize(() => tf.sum(tf.square(variable)));
    const weights = await optimizer.getWeights();
    kept.push(
      weights.map(({ name, tensor }) => [name.replace(/_\d/, ""), tf.clone(tensor)] as const),
    );
    tf.dispose([variable, weights[0].tensor]);
    optimizer.dispose();
  }
  const [expected, actual] = kept;
  assert.equal(actual.map(([name]) => name), expected.map(([name]) => name));
  expected.forEach(([, tensor], i) => close(actual[i][1], tensor));
});
own.run();
