import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { boft, glora, ia3, lokr, lora, maxNorm, oft, tlora } from "../../mod.ts";
import { close, leakless } from "../support/close.ts";
import { tensor } from "../support/trained.ts";

const network = () =>
  tf.sequential({
    layers: [
      tf.layers.conv2d({ name: "conv", inputShape: [5, 5, 4], filters: 8, kernelSize: 3 }),
      tf.layers.flatten(),
      tf.layers.dense({ name: "head", units: 4 }),
    ],
  });
const length = (x: tf.Tensor) => tf.norm(x).dataSync()[0];

const capping = suite("maxNorm()");
leakless(capping);

for (
  const [name, adapt] of Object.entries({
    lora: (model: tf.LayersModel) => lora.model(model, 2, { alpha: 4 }),
    "lora from its base": (model: tf.LayersModel) => lora.model(model, 2, { init: "pissa" }),
    lokr: (model: tf.LayersModel) => lokr.model(model, 1),
    ia3: (model: tf.LayersModel) => ia3.model(model),
    glora: (model: tf.LayersModel) => glora.model(model, 2),
    tlora: (model: tf.LayersModel) => tlora.model(model, 2),
    oft: (model: tf.LayersModel) => oft.model(model, 2),
    boft: (model: tf.LayersModel) => boft.model(model, 4),
  })
) {
  capping(`holds each ${name} of a model to its norm through model.fit`, async () => {
    const model = network(), x = tensor([8, 5, 5, 4], 1), y = tf.mul(tensor([8, 4], 2), 9);
    const all = adapt(model), optimizer = tf.train.adam(0.05), max = 0.05;
    const norms = maxNorm(all, max);
    model.compile({ optimizer, loss: "meanSquaredError" });
    await model.fit(x, y, { epochs: 3, verbose: 0, callbacks: norms });
    for (const [layer, { adapter, ...attached }] of all.attached) {
      const now = length(adapter.factors.blocks ?? attached.delta());
      assert.ok(now <= max * (1 + 1e-4) && now > 0, `${layer} is ${now} long`);
    }
    const before = [...all.attached.values()].map((attached) => attached.delta());
    const held = norms.update();
    assert.equal([...held.keys()], ["conv", "head"]);
    [...all.attached.values()].forEach((attached, i) =>
      close(attached.delta(), before[i], "gradient", "a short one stays")
    );
    all.detach();
    optimizer.dispose();
    model.dispose();
  });
}
capping("refuses a norm that is not above 0", () => {
  const model = network(), all = lora.model(model, 2);
  assert.throws(() => maxNorm(all, -1), /above 0: current norm is -1/);
  all.detach();
  model.dispose();
});
capping.run();
