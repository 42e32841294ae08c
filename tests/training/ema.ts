import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { attach, dispose, ema, files, lora, schedule } from "../../mod.ts";
import { close, leakless } from "../support/close.ts";
import { tensor } from "../support/trained.ts";

const network = () =>
  tf.sequential({
    layers: [
      tf.layers.dense({ name: "one", inputShape: [6], units: 5, activation: "relu" }),
      tf.layers.dense({ name: "two", units: 4 }),
    ],
  });
const predict = (model: tf.LayersModel) => model.predict(tensor([3, 6], 9)) as tf.Tensor;

const averages = suite("ema()");
leakless(averages);

averages("is Σ (1 − d) dᵏ of the factors k steps ago, and dᵏ of what they began as", () => {
  const model = network(), attached = lora.linear(model.getLayer("one"), 2), d = 0.8;
  const up = attached.adapter.factors.up as tf.Variable, average = ema(attached, d);
  const states = [1, 2, 3].map((seed) => tensor(up.shape, seed));
  for (const state of states) {
    up.assign(state);
    average.update();
  }
  const expected = states.reduce(
    (sum, state, i) => tf.add(sum, tf.mul(state, (1 - d) * d ** (states.length - 1 - i))),
    tf.zeros(up.shape),
  );
  close(average.adapters.get("one")!.factors.up!, expected);
  close(average.adapters.get("one")!.factors.down!, attached.adapter.factors.down!);
  average.dispose();
  attached.detach();
  model.dispose();
});

averages("takes a decay that changes: 1 − 1/(step + 1) is the plain mean", () => {
  const model = network(), attached = lora.linear(model.getLayer("one"), 2);
  const up = attached.adapter.factors.up as tf.Variable;
  const average = ema(attached, (step) => 1 - 1 / (step + 1));
  const states = [1, 2, 3, 4].map((seed) => tensor(up.shape, seed));
  for (const state of states) {
    up.assign(state);
    average.update();
  }
  close(average.adapters.get("one")!.factors.up!, tf.div(tf.addN(states), 4));
  average.dispose();
  attached.detach();
  model.dispose();
});

averages(
  "follows model.fit, swaps in and out, is saved, and leaves training as it is",
  async () => {
    const x = tensor([8, 6], 1), y = tensor([8, 4], 2), kept: tf.Tensor[] = [];
    const folder = await mkdtemp(join(tmpdir(), "lowrank-")),
      path = join(folder, "mean.safetensors");
    const model = network(), all = lora.model(model, 2, { init: "pissa" });
    const optimizer = tf.train.adam(0.02);
    model.compile({ optimizer, loss: "meanSquaredError" });
    const average = ema(all, schedule.constant(0.9));
    const watch = {
      onBatchEnd: () => void kept.push(all.adapters.get("two")!.factors.up!.clone()),
    };
    const options = { epochs: 2, batchSize: 4, verbose: 0 } as const;
    await model.fit(x, y, { ...options, callbacks: [average, watch] as tf.CustomCallbackArgs[] });
    assert.is(kept.length, 4);
    const born = tf.tidy(() => average.adapters.get("two")!.factors.bornUp!.clone());
    const expected = kept.reduce((mean, now) => tf.add(tf.mul(mean, 0.9), tf.mul(now, 0.1)), born);
    close(average.adapters.get("two")!.factors.up!, expected, "gradient");

    const trained = predict(model);
    average.swap();
    const smooth = predict(model);
    assert.throws(() => close(smooth, trained));
    assert.throws(() => average.update(), /swap them back before training/);
    await average.save(path); // what is saved are the averages, wherever they are
    average.swap();
    close(predict(model), trained);
    all.detach();
    const { adapters } = await files.open(path), back = attach(model, adapters);
    close(predict(model), smooth);
    back.detach();
    for (const adapter of adapters.values()) dispose(adapter);
    average.dispose();
    optimizer.dispose();
    model.dispose();
    await rm(folder, { recursive: true });
  },
);

averages("refuses a decay that is none", () => {
  const model = network(), all = lora.model(model, 2);
  assert.throws(() => ema(all, 1), /below 1: current decay is 1/);
  all.detach();
  model.dispose();
});

averages.run();
