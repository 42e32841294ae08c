import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  attach,
  type AttachedModel,
  boft,
  dispose,
  dylora,
  files,
  full,
  glora,
  ia3,
  loha,
  lokr,
  lora,
  type ModelOptions,
  norm,
  oft,
  PRESETS,
  tlora,
} from "../../mod.ts";
import { close } from "../support/close.ts";
import { diffuser, network, numbers, predict, tensor } from "../support/layered.ts";

const weightsOf = (model: tf.LayersModel) =>
  model.weights.map((weight) => `${weight.originalName}: ${numbers(weight.read())}`);

const data = () => ({
  x: tensor([12, 6, 6, 2], 1),
  y: tf.oneHot(tf.range(0, 12, 1, "int32").mod(3).toInt(), 3),
});
const compile = (model: tf.LayersModel, optimizer: string | tf.Optimizer = "adam") =>
  model.compile({ optimizer, loss: "categoricalCrossentropy", metrics: ["accuracy"] });
const quiet = { epochs: 8, batchSize: 4, verbose: 0, shuffle: false } as const;

const models = suite("lora.model()");

for (const when of ["before", "after"]) {
  for (
    const [name, adapt] of Object.entries({
      lora: (model: tf.LayersModel) => lora.model(model, 2, { alpha: 2 }),
      "lora with dora": (model: tf.LayersModel) =>
        lora.model(model, 2, { dora: "output", where: /conv1|point|head/ }),
      loha: (model: tf.LayersModel) => loha.model(model, 2),
      lokr: (model: tf.LayersModel) => lokr.model(model, 2),
      ia3: (model: tf.LayersModel) => ia3.model(model),
      dylora: (model: tf.LayersModel) => dylora.model(model, 3, { where: /conv1|point|head/ }),
      full: (model: tf.LayersModel) => full.model(model),
      oft: (model: tf.LayersModel) => oft.model(model, 2, { where: /conv1|point/ }),
      boft: (model: tf.LayersModel) => boft.model(model, 4, { where: "point", constraint: 0.5 }),
      glora: (model: tf.LayersModel) => glora.model(model, 2, { where: /conv1|point|head/ }),
      tlora: (model: tf.LayersModel) => tlora.model(model, 2, { alpha: 4 }),
      "lora with dropouts": (model: tf.LayersModel) =>
        lora.model(model, 2, { dropout: 0.1, rankDropout: 0.1, moduleDropout: 0.5 }),
    })
  ) {
    models(
      `${name}, attached ${when} compile: fit trains the factors only, detach gives all back`,
      async () => {
        const model = network(), { x, y } = data();
        if (when === "after") compile(model);
        const before = weightsOf(model), output = numbers(predict(model, x));
        const all = adapt(model);
        if (when === "before") compile(model, tf.train.adam(0.02));
        const born = new Map([...all.adapters].map(([name, { factors }]) => [
          name,
          Object.values(factors).map((factor) => numbers(factor!)),
        ]));
        close(predict(model, x), tf.tensor(output, [12, 3]), "value", "born silent");
        const { history } = await model.fit(x, y, { ...quiet, epochs: 15 });
        if (!name.includes("dropouts")) {
          assert.ok(history.loss.at(-1)! < history.loss[0], `${history.loss}`);
        }
        for (const [name, { factors }] of all.adapters) {
          const now = Object.values(factors).map((factor) => numbers(factor!));
          assert.not.equal(now, born.get(name), `${name} is trained`);
        }
        const [loss] = model.evaluate(x, y) as tf.Scalar[];
        assert.ok(Number.isFinite(loss.dataSync()[0]));
        all.detach();
        assert.equal(weightsOf(model), before);
        assert.equal(numbers(predict(model, x)), output);
        model.dispose();
      },
    );
  }
}

models(
  "summary counts the factors, save writes W′ for everybody, loading it predicts the same",
  async () => {
    const model = network(), { x, y } = data(), lines: string[] = [];
    compile(model);
    const all = lora.model(model, 2, { strength: 0.8 });
    await model.fit(x, y, quiet);
    const adapted = predict(model, x), before = tf.memory().numTensors;
    model.summary(undefined, undefined, (line) => lines.push(line));
    assert.ok(
      lines.some((line) => line.includes(`Trainable params: ${all.parameters}`)),
      lines.join("\n"),
    );
    let saved: tf.io.ModelArtifacts;
    await model.save(tf.io.withSaveHandler((artifacts) => {
      saved = artifacts;
      return Promise.resolve({
        modelArtifactsInfo: { dateSaved: new Date(), modelTopologyType: "JSON" },
      });
    }));
    assert.is(tf.memory().numTensors, before, "save leaves no tensor over");
    const loaded = await tf.loadLayersModel(tf.io.fromMemory(saved!));
    close(predict(loaded, x), adapted);

    const again = lora.model(loaded, 2); // a model that was not made here
    close(predict(loaded, x), adapted);
    again.detach();
    all.merge();
    close(predict(model, x), adapted);
    loaded.dispose();
    model.dispose();
  },
);

models("save(), files.open() and attach() bring the same predictions back", async () => {
  const model = network(), { x, y } = data();
  compile(model);
  const all = loha.model(model, 2, {
    alpha: 1,
    overrides: { head: { algorithm: "lokr", rank: 1 } },
  });
  await model.fit(x, y, quiet);
  const adapted = predict(model, x), folder = await mkdtemp(join(tmpdir(), "lowrank-"));
  try {
    await all.save(join(folder, "style.safetensors"));
    all.detach();
    const file = await files.open(join(folder, "style.safetensors"));
    assert.equal([...file.adapters.keys()].sort(), ["conv1", "depth", "head", "point"]);
    assert.is(file.adapters.get("head")!.algorithm, "lokr");
    const back = attach(model, file.adapters);
    close(predict(model, x), adapted);
    back.detach();
    for (const adapter of file.adapters.values()) dispose(adapter);
  } finally {
    await rm(folder, { recursive: true });
  }
  model.dispose();
});

models("norm.model adapts all normalizations, and nothing else", async () => {
  const model = network(), { x, y } = data(), all = norm.model(model);
  assert.equal([...all.adapters].map(([name, { rank }]) => [name, rank]), [["norm", 0]]);
  assert.is(all.parameters, 6 + 6);
  compile(model);
  const { history } = await model.fit(x, y, quiet);
  assert.ok(history.loss.at(-1)! < history.loss[0]);
  all.detach();
  model.dispose();
});

models(
  "two networks in one process share no settings, whichever comes first or goes first",
  async () => {
    const told = (all: AttachedModel) =>
      [...all.attached].map(([name, { adapter, strength, active }]) => {
        const { algorithm, rank, alpha, factors, dropouts } = adapter;
        const shapes = Object.entries(factors).map(([factor, tensor]) => [factor, tensor!.shape]);
        return JSON.stringify([name, algorithm, rank, alpha, shapes, dropouts, strength, active]);
      });
    const plain: ModelOptions = { seed: 1 };
    const special: ModelOptions = {
      alpha: 7,
      conv: 1,
      tucker: true,
      rankDropout: 0.2,
      preset: "full",
      exclude: "conv_out",
      overrides: { Dense: { algorithm: "loha", rank: 1 }, conv_in: { strength: 0.5 } },
    };
    const alone = (options: ModelOptions) => {
      const model = diffuser(), all = lora.model(model, 2, options), is = told(all);
      all.detach();
      model.dispose();
      return is;
    };
    const presets = JSON.stringify(PRESETS), options = JSON.stringify([plain, special]);
    const expected = [plain, special].map(alone);
    assert.not.equal(expected[0], expected[1]);
    for (const order of [[plain, special], [special, plain]]) {
      const networks = order.map((options) => {
        const model = diffuser();
        return { model, options, all: lora.model(model, 2, options) };
      });
      for (const { options, all } of networks) {
        assert.equal(told(all), expected[[plain, special].indexOf(options)]);
      }
      const [one, other] = networks, kept = told(other.all), x = tensor([1, 4, 4, 4], 1);
      const output = numbers(predict(other.model, x));
      one.all.strength = 3;
      one.all.active = 1;
      one.all.drop({ moduleDropout: 0.9 });
      one.model.compile({ optimizer: "sgd", loss: "meanSquaredError" });
      await one.model.fit(x, tf.zeros([1, 4, 4, 4]), { verbose: 0 });
      assert.equal([told(other.all), numbers(predict(other.model, x))], [kept, output]);
      one.all.detach();
      assert.equal([told(other.all), numbers(predict(other.model, x))], [kept, output]);
      other.all.detach();
      for (const { model } of networks) model.dispose();
    }
    assert.equal([JSON.stringify(PRESETS), JSON.stringify([plain, special])], [presets, options]);
  },
);

models("one value on two networks is two adapters", () => {
  const models = [network(), network()], value = lora.create([128, 3], 1, { seed: 2 });
  const heads = models.map((model) => attach(model.getLayer("head"), value));
  const [up, other] = heads.map(({ adapter }) => adapter.factors.up as tf.Variable);
  up.assign(tf.ones(up.shape));
  heads[0].strength = 2;
  heads[0].drop({ moduleDropout: 0.5 });
  assert.equal([numbers(other), numbers(value.factors.up)], [[0, 0, 0], [0, 0, 0]]);
  assert.equal([heads[1].strength, heads[1].adapter.dropouts.moduleDropout], [1, 0]);
  heads[0].detach();
  close(heads[1].adapter.factors.down!, value.factors.down);
  heads[1].detach();
  dispose(value);
  for (const model of models) model.dispose();
});

models("refuses as a whole what one layer refuses, and leaves the model as it was", () => {
  const model = network(), before = model.trainableWeights.length, { numTensors } = tf.memory();
  assert.throws(() => lora.model(model, 5), /Cannot attach lora to "head" as rank must be <= 3/);
  assert.throws(() => lora.model(model, 2, { where: "nothing" }), /where must choose a layer/);
  assert.throws(
    () => lora.model(model, 2, { overrides: { conv9: { rank: 1 } } }),
    /current override is conv9/,
  );
  assert.is(model.trainableWeights.length, before);
  assert.is(tf.memory().numTensors, numTensors);
  model.dispose();
});

for (const whole of [false, true]) {
  models(
    `a model frozen ${
      whole ? "as a whole" : "layer by layer"
    } trains its factors and stays frozen after`,
    async () => {
      const model = network(), { x, y } = data();
      if (whole) model.trainable = false;
      else for (const layer of model.layers) layer.trainable = false;
      const all = lora.model(model, 2);
      assert.is(model.trainableWeights.length, 2 * all.attached.size);
      compile(model);
      await model.fit(x, y, { ...quiet, epochs: 1 });
      all.detach();
      assert.is(model.trainableWeights.length, 0);
      model.dispose();
    },
  );
}

models("nothing is left over of attaching, training and detaching", async () => {
  const model = network(), { x, y } = data();
  compile(model, "sgd");
  await model.fit(x, y, { ...quiet, epochs: 1 });
  const { numTensors } = tf.memory();
  for (const algorithm of [lora, loha, lokr, dylora]) {
    const all = algorithm.model(model, 1);
    await model.fit(x, y, { ...quiet, epochs: 1 });
    all.detach();
  }
  assert.is(tf.memory().numTensors, numTensors);
  tf.dispose([x, y]);
  model.dispose();
});

models.run();
