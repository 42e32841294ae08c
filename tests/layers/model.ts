import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  adapt,
  attach,
  type AttachedModel,
  boft,
  dispose,
  dylora,
  files,
  fromArguments,
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
import { values } from "../support/geometries.ts";

const tensor = (shape: readonly number[], seed: number) =>
  tf.tensor(values(shape, seed), [...shape]);
const numbers = (x: tf.Tensor) => [...x.dataSync()];
const predict = (model: tf.LayersModel, x: tf.Tensor) => model.predict(x) as tf.Tensor;
const weightsOf = (model: tf.LayersModel) =>
  model.weights.map((weight) => `${weight.originalName}: ${numbers(weight.read())}`);

function network(): tf.LayersModel {
  const kernelInitializer = (seed: number) => tf.initializers.glorotNormal({ seed });
  return tf.sequential({
    layers: [
      tf.layers.conv2d({
        name: "conv1",
        inputShape: [6, 6, 2],
        filters: 6,
        kernelSize: 3,
        padding: "same",
        activation: "relu",
        kernelInitializer: kernelInitializer(1),
      }),
      tf.layers.batchNormalization({ name: "norm" }),
      tf.layers.depthwiseConv2d({
        name: "depth",
        kernelSize: 3,
        depthwiseInitializer: kernelInitializer(2),
      }),
      tf.layers.conv2d({
        name: "point",
        filters: 8,
        kernelSize: 1,
        kernelInitializer: kernelInitializer(3),
      }),
      tf.layers.flatten({ name: "flat" }),
      tf.layers.dense({
        name: "head",
        units: 3,
        activation: "softmax",
        kernelInitializer: kernelInitializer(4),
      }),
    ],
  });
}

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

models("chooses layers, and gives each its own settings", () => {
  const model = network();
  const all = lora.model(model, 3, {
    conv: 2,
    convAlpha: 1,
    where: /conv1|point|head/,
    overrides: { head: { rank: 1, alpha: 5 }, point: { strength: 0.5 } },
  });
  const told = [...all.attached].map(([name, { adapter, strength }]) => [
    name,
    adapter.rank,
    adapter.alpha,
    strength,
  ]);
  assert.equal(told, [["conv1", 2, 1, 1], ["point", 3, 3, 0.5], ["head", 1, 5, 1]]);
  all.strength = 2;
  assert.is(all.attached.get("point")!.strength, 2);
  all.detach();
  const points = lora.model(model, 3, { conv: 0, exclude: "head" });
  assert.equal([...points.attached.keys()], ["point"]);
  points.detach();
  model.dispose();
});

models("means layers by name, glob, class, pattern, question and any of several", () => {
  const model = network(), pattern = /conv1/g;
  const chosen = (where: ModelOptions["where"], exclude?: ModelOptions["where"]) => {
    const all = lora.model(model, 2, { where, exclude }), names = [...all.attached.keys()];
    all.detach();
    return names;
  };
  assert.equal(chosen("point"), ["point"]);
  assert.equal(chosen("*o*t*"), ["point"]);
  assert.equal(chosen("con??"), ["conv1"]);
  assert.equal(chosen("Conv2D"), ["conv1", "point"]);
  assert.equal(chosen((layer) => layer.getClassName() === "Dense"), ["head"]);
  assert.equal(chosen(["Conv2D", /^head/], "conv*"), ["point", "head"]);
  assert.equal([chosen(pattern), chosen(pattern)], [["conv1"], ["conv1"]]);
  model.dispose();
});

models("gives the name's settings over the glob's over the class's over the model's", () => {
  const model = network();
  const all = lora.model(model, 3, {
    tucker: true,
    overrides: {
      point: { alpha: 7 },
      "*n*": { alpha: 5, rank: 1 },
      Conv2D: { algorithm: "loha", alpha: 6, rank: 2 },
      depth: { algorithm: "ia3" },
    },
  });
  const told = [...all.adapters].map(([name, { algorithm, rank, alpha }]) => [
    name,
    algorithm,
    rank,
    rank && alpha,
  ]);
  assert.equal(told, [
    ["conv1", "loha", 1, 5],
    ["depth", "ia3", 0, 0],
    ["point", "loha", 1, 7],
    ["head", "lora", 3, 3],
  ]);
  assert.ok(all.adapters.get("conv1")!.factors.core1, "the model's tucker, which loha reads too");
  all.detach();
  model.dispose();
});

models("adapts normalizations where it is asked to, by the algorithm for them", () => {
  const model = network();
  const told = (all: AttachedModel) => {
    const list = [...all.adapters].map(([name, { algorithm }]) => `${name} ${algorithm}`);
    all.detach();
    return list;
  };
  const kernels = ["depth lora", "point lora", "head lora"];
  assert.equal(told(lora.model(model, 2)), ["conv1 lora", ...kernels]);
  const all = ["conv1 lora", "norm norm", ...kernels];
  assert.equal(told(lora.model(model, 2, { norm: true, dropout: 0.1 })), all);
  const overrides = { BatchNormalization: { algorithm: "norm" } } as const;
  assert.equal(told(lora.model(model, 2, { overrides })), all);
  const args = { network_dim: 2, train_norm: "True", loraplus_lr_ratio: 16 };
  const { settings } = fromArguments(args);
  assert.equal(told(adapt(model, settings)), all);
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

models("boft.model leaves out what has no blocks of its size, and says so", () => {
  const model = network(), { warn } = console, told: string[] = [];
  console.warn = (text: string) => told.push(text);
  try {
    const all = boft.model(model, 4); // 3 outputs of the head; 6 are 2 blocks of 3, no even ones
    assert.equal([...all.attached.keys()], ["point"]);
    all.detach();
    assert.match(told[0], /^Left out "conv1" \(boft of rank 4\), "depth" .*, "head" /);
    assert.throws(() => boft.model(model, 4, { where: "head" }), /Cannot split 3 into even blocks/);
    assert.is(told.length, 1);
  } finally {
    console.warn = warn;
  }
  model.dispose();
});

models("takes what LyCORIS's and kohya's arguments mean", () => {
  const model = network();
  const args = { algo: "lokr", network_dim: "2", network_alpha: "1", conv_dim: "1", factor: "2" };
  const all = adapt(model, fromArguments(args).settings);
  const told = [...all.adapters].map(([name, { algorithm, rank, alpha, factors }]) => [
    name,
    algorithm,
    rank,
    alpha,
    factors.w1?.shape,
  ]);
  assert.equal(told.filter(([name]) => name === "conv1" || name === "point"), [
    ["conv1", "lokr", 1, 1, [1, 2]],
    ["point", "lokr", 2, 1, [2, 2]],
  ]);
  all.detach();
  model.dispose();
});

/** A network whose layers are called as diffusers calls them. */
function diffuser(): tf.LayersModel {
  const conv = (name: string, kernelSize: number) =>
    tf.layers.conv2d({ name, filters: 4, kernelSize, padding: "same" });
  return tf.sequential({
    layers: [
      tf.layers.inputLayer({ inputShape: [4, 4, 4] }),
      conv("conv_in", 3),
      conv("down_blocks.0.resnets.0.conv1", 3),
      conv("down_blocks.0.attentions.0.proj_in", 1),
      ...["to_q", "to_k", "to_v"].map((name) =>
        tf.layers.dense({
          name: `down_blocks.0.attentions.0.transformer_blocks.0.attn1.${name}`,
          units: 4,
        })
      ),
      tf.layers.dense({
        name: "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2",
        units: 4,
      }),
      conv("conv_out", 3),
    ],
  });
}

models("takes LyCORIS's presets by name, by file and as values, narrowed by where", async () => {
  const model = diffuser(), folder = await mkdtemp(join(tmpdir(), "lowrank-"));
  const told = (all: AttachedModel) => {
    const list = [...all.adapters].map(([name, { algorithm, rank }]) =>
      `${name.split(".").at(-1)} ${algorithm} ${rank}`
    );
    all.detach();
    return list;
  };
  const attention = ["to_q lora 2", "to_k lora 2", "to_v lora 2"];
  assert.equal(told(lora.model(model, 2, { preset: "attn-mlp" })), [
    "proj_in lora 2",
    ...attention,
    "2 lora 2",
  ]);
  assert.equal(told(lora.model(model, 2, { preset: "attn-only" })), attention);
  assert.equal(told(lora.model(model, 2, { preset: "attn-only", where: /to_q/ })), ["to_q lora 2"]);
  assert.is(told(lora.model(model, 2, { preset: "full" })).length, 8);
  const ia3s = ia3.model(model, { preset: "ia3" });
  const shapes = [...ia3s.adapters].map(([name, { factors }]) => [name, factors.vector!.shape]);
  assert.equal(shapes.map(([name]) => `${name}`.match(/\w+$/)![0]), ["to_k", "to_v", "2"]);
  assert.equal(shapes[2][1], [4, 1], "on the input");
  ia3s.detach();
  try {
    const path = join(folder, "mine.toml") as `${string}.toml`;
    await writeFile(
      path,
      `enable_conv = false
target_module = ["CrossAttention"]
target_name = []

[module_algo_map.CrossAttention]
algo = "lokr"
dim = 1
factor = 2

[name_algo_map."conv_out"]
algo = "full"

[name_algo_map.".*ff.net.*"]
dim = 3
`,
    );
    const expected = ["to_q lokr 1", "to_k lokr 1", "to_v lokr 1", "2 loha 3"];
    assert.equal(told(loha.model(model, 2, { preset: path })), expected);
    await writeFile(path, "enable_conv = maybe");
    assert.throws(
      () => lora.model(model, 2, { preset: path }),
      /Cannot read .* as a preset is TOML/,
    );
    await writeFile(path, "linear_dim = 4");
    assert.throws(() => lora.model(model, 2, { preset: path }), /current key is linear_dim/);
  } finally {
    await rm(folder, { recursive: true });
  }
  assert.throws(() => lora.model(model, 2, { preset: "fulll" as "full" }), /current name is fulll/);
  assert.throws(
    () => lora.model(model, 2, { preset: { enable_conv: true, target_module: [] } }),
    /where and the preset must choose a layer/,
  );
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
