import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { attach, dispose, ia3, lora, schedule, scheduleDropouts } from "../../mod.ts";
import { leakless } from "../support/close.ts";
import { tensor } from "../support/trained.ts";

const network = () =>
  tf.sequential({
    layers: [
      tf.layers.dense({ name: "one", inputShape: [6], units: 5 }),
      tf.layers.dense({ name: "two", units: 4 }),
    ],
  });
const train = (model: tf.LayersModel, epochs: number, callbacks: tf.CustomCallbackArgs[]) =>
  model.fit(tensor([8, 6], 1), tensor([8, 4], 2), { epochs, batchSize: 4, verbose: 0, callbacks });

const dropping = suite("drop()");
leakless(dropping);

dropping("changes what a training step leaves out, and nothing else", () => {
  const model = network(), attached = lora.linear(model.getLayer("one"), 2, { seed: 3 });
  const { adapter, layer } = attached, x = tensor([3, 6], 1);
  (adapter.factors.up as tf.Variable).assign(tensor([2, 5], 1));
  const run = (training: boolean) => [...(layer.apply(x, { training }) as tf.Tensor).dataSync()];
  const whole = run(false);
  assert.equal(run(true), whole);
  attached.drop({ moduleDropout: 0.999999 });
  assert.not.equal(run(true), whole);
  assert.equal(run(false), whole);
  attached.drop({ rankDropout: 0.25, moduleDropout: 0 });
  assert.equal(adapter.dropouts, {
    dropout: 0,
    rankDropout: 0.25,
    rankDropoutScale: false,
    moduleDropout: 0,
  });
  const kept = attached.detach({ keep: true })!;
  assert.is(kept.dropouts.rankDropout, 0.25);
  dispose(kept);
  model.dispose();
});

dropping("is for the layers of a model whose algorithm has it, and for itself alone", () => {
  const model = network(), value = lora.create([6, 5], 2), other = network();
  const all = lora.model(model, 2, { overrides: { two: { algorithm: "ia3" } } });
  all.drop({ rankDropout: 0.3, moduleDropout: 0.1 });
  const told = [...all.adapters.values()].map(({ dropouts: { rankDropout, moduleDropout } }) => [
    rankDropout,
    moduleDropout,
  ]);
  assert.equal(told, [[0.3, 0.1], [0, 0.1]]);
  const one = attach(other.getLayer("one"), value);
  one.drop({ rankDropout: 0.5 });
  assert.is(value.dropouts.rankDropout, 0, "the value that was attached stays as it is");
  assert.throws(() => all.drop({ rankDropout: 1 }), /rankDropout must be at least 0 and below 1/);
  all.detach();
  one.detach();
  const ia3s = ia3.model(model);
  assert.throws(
    () => ia3s.drop({ rankDropout: 0.1 }),
    /Cannot drop parts of ia3 as its options are/,
  );
  ia3s.detach();
  const forced = lora.linear(model.getLayer("one"), 2, { route: "hybrid" });
  assert.throws(() => forced.drop({ dropout: 0.1 }), /route is hybrid, which has no dropout/);
  forced.drop({ moduleDropout: 0.1 });
  forced.detach();
  dispose(value);
  model.dispose();
  other.dispose();
});

dropping.run();

const scheduled = suite("scheduleDropouts()");
leakless(scheduled);

for (const by of ["step", "epoch"] as const) {
  scheduled(`sets what every ${by} of model.fit has, on through the next training`, async () => {
    const model = network(), all = lora.model(model, 2), seen: number[] = [];
    model.compile({ optimizer: "sgd", loss: "meanSquaredError" });
    const dropouts = scheduleDropouts(all, { rankDropout: schedule.linear(0, 0.8, 8) }, by);
    const watch = {
      onBatchBegin: () => void seen.push(10 * all.adapters.get("two")!.dropouts.rankDropout),
    };
    await train(model, 2, [dropouts, watch]);
    await train(model, 1, [dropouts, watch]);
    const steps = { step: [0, 1, 2, 3, 4, 5], epoch: [0, 0, 1, 1, 0, 0] }[by];
    assert.equal(seen.map(Math.round), steps);
    dropouts.update(8);
    assert.is(all.adapters.get("one")!.dropouts.rankDropout, 0.8);
    all.detach();
    model.dispose();
  });
}
scheduled("refuses at once what its first step could not have", () => {
  const model = network(), all = ia3.model(model);
  assert.throws(() => scheduleDropouts(all, { rankDropout: 0.1 }), /current option is rankDropout/);
  assert.throws(() => scheduleDropouts(all, { moduleDropout: 2 }), /below 1: current value is 2/);
  all.detach();
  model.dispose();
});
scheduled.run();
