import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { glora, ia3, loha, lokr, lora, loraPlus } from "../../mod.ts";
import type { Adapter } from "../../lib/adapter/adapter.ts";
import { close, leakless } from "../support/close.ts";
import { tensor } from "../support/trained.ts";

const network = () =>
  tf.sequential({
    layers: [
      tf.layers.conv2d({ name: "conv", inputShape: [5, 5, 4], filters: 6, kernelSize: 3 }),
      tf.layers.flatten(),
      tf.layers.dense({ name: "head", units: 4 }),
    ],
  });

/** TensorFlow.js's optimizers at a rate. */
const OPTIMIZERS: Record<string, (rate: number) => tf.Optimizer> = {
  sgd: tf.train.sgd,
  momentum: (rate) => tf.train.momentum(rate, 0.9),
  adagrad: tf.train.adagrad,
  adadelta: tf.train.adadelta,
  adam: tf.train.adam,
  adamax: tf.train.adamax,
  rmsprop: (rate) => tf.train.rmsprop(rate, 0.9, 0.5),
};

const plus = suite("loraPlus()");
leakless(plus);

for (const [name, make] of Object.entries(OPTIMIZERS)) {
  plus(`is ${name} at its rate for down, at 16 times that for up`, () => {
    const model = network(), all = lora.model(model, 2);
    const { down, up } = all.adapters.get("conv")!.factors as Record<string, tf.Variable>;
    const copies = [down, up].map((factor) => tf.variable(factor));
    const slow = make(0.01), fast = make(0.16), both = make(0.01), plus = loraPlus(both, all, 16);
    for (let step = 0; step < 3; step++) {
      const [first, second] = [down, up].map(({ shape }, i) => tensor(shape, 2 * step + i));
      plus.applyGradients([{ name: down.name, tensor: first }, { name: up.name, tensor: second }]);
      slow.applyGradients({ [copies[0].name]: first });
      fast.applyGradients({ [copies[1].name]: second });
    }
    close(down, copies[0]);
    close(up, copies[1]);
    assert.is(plus.iterations, 3);
    for (const optimizer of [slow, fast, plus] as (tf.Optimizer & { c?: tf.Tensor })[]) {
      optimizer.dispose();
      optimizer.c?.dispose(); // momentum's dispose forgets it
    }
    tf.dispose(copies);
    all.detach();
    model.dispose();
  });
}

plus("trains by model.fit, whose learning rate may change on the way", async () => {
  const x = tensor([8, 5, 5, 4], 1), y = tensor([8, 4], 2);
  const train = async (
    wrap: (optimizer: tf.Optimizer, all: ReturnType<typeof lora.model>) => tf.Optimizer,
  ) => {
    const model = network();
    model.layers.filter((layer) => layer.getWeights().length > 0).forEach((layer, seed) =>
      layer.setWeights(layer.getWeights().map(({ shape }) => tensor(shape, seed + 5)))
    );
    const all = lora.model(model, 2, { seed: 1 }), own = tf.train.adam(1e-3);
    const optimizer = wrap(own, all);
    model.compile({ optimizer, loss: "meanSquaredError" });
    const options = { epochs: 3, batchSize: 4, shuffle: false, verbose: 0 } as const;
    const callbacks = {
      onEpochBegin: (epoch: number) =>
        void Object.assign(optimizer, { learningRate: 1e-3 / (1 + epoch) }),
    };
    const { history } = await model.fit(x, y, { ...options, callbacks });
    const numbers = [...all.adapters].flatMap(([, { factors }]) => Object.values(factors));
    const moved = numbers.map((factor) => [...factor!.dataSync()]);
    all.detach();
    optimizer.dispose();
    model.dispose();
    return { loss: history.loss.at(-1) as number, moved };
  };
  const plain = await train((optimizer) => optimizer);
  const once = await train((optimizer, all) => loraPlus(optimizer, all, 1));
  const faster = await train((optimizer, all) => loraPlus(optimizer, all, 8));
  plain.moved.forEach((numbers, i) =>
    close(tf.tensor1d(once.moved[i]), tf.tensor1d(numbers), "gradient")
  );
  assert.ok(faster.loss < plain.loss, `${faster.loss} < ${plain.loss}`);
});

plus("speeds up the factor of every algorithm that is born zero beside others", () => {
  const model = network(), head = model.getLayer("head");
  const moved = (adapter: Adapter) => {
    const optimizer = tf.train.sgd(0.1), factors = adapter.factors as Record<string, tf.Variable>;
    const before = Object.values(factors).map((factor) => factor.clone());
    const ones = Object.values(factors).map(({ name, shape }) => ({
      name,
      tensor: tf.ones(shape),
    }));
    const attached = { layer: head, adapter } as Parameters<typeof loraPlus>[1];
    loraPlus(optimizer, attached, 4).applyGradients(ones);
    const steps = Object.entries(factors).map(([name, factor], i) =>
      [name, Math.round(10 * tf.mean(tf.sub(before[i], factor)).dataSync()[0])] as const
    );
    optimizer.dispose();
    return Object.fromEntries(steps);
  };
  const on = (attached: ReturnType<typeof lora.linear>) => {
    const told = moved(attached.adapter);
    attached.detach();
    return told;
  };
  assert.equal(on(loha.linear(head, 1)), { down1: 1, up1: 1, down2: 1, up2: 4 });
  assert.equal(on(lokr.linear(head, 1, { full: true })), { w1: 1, w2: 4 });
  assert.equal(on(glora.linear(head, 1)), { downA: 4, upA: 1, downB: 4, upB: 1 });
  assert.equal(on(lora.linear(head, 1, { scalar: true })), { down: 1, up: 1, scalar: 4 });
  assert.equal(on(lora.linear(head, 1, { dora: "output" })), { down: 1, up: 4, magnitude: 1 });
  model.dispose();
});

plus("refuses a ratio that is none, and adapters of one factor", () => {
  const model = network(), optimizer = tf.train.sgd(1), all = ia3.model(model);
  assert.throws(() => loraPlus(optimizer, all, 0), /above 0 and finite: current ratio is 0/);
  assert.throws(
    () => loraPlus(optimizer, all, 2),
    /born zero beside others: current algorithms are ia3/,
  );
  all.detach();
  optimizer.dispose();
  model.dispose();
});

plus.run();
