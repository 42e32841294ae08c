/** What `startup.ts` starts: imports the library, makes one step, prints when each was done. */
import type * as types from "@tensorflow/tfjs";

const begun = performance.timeOrigin;
const { lora, tf } = await import("../../mod.ts");
const imported = Date.now() - begun;
const { convnet } = await import("../../lib/models/convnet.ts");
const model = convnet();
lora.model(model, 8);
const x = tf.randomUniform([64, 28, 28, 1]), y = tf.oneHot(tf.zeros([64], "int32"), 10);
const variables = model.trainableWeights.map((weight) => weight.read() as types.Variable);
const value = tf.train.adam().minimize(
  () => tf.losses.softmaxCrossEntropy(y, model.apply(x, { training: true }) as types.Tensor),
  true,
  variables,
)!;
await value.data();
console.log(JSON.stringify({ imported, stepped: Date.now() - begun }));
