import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  adapt,
  type AttachedModel,
  boft,
  fromArguments,
  ia3,
  loha,
  lora,
  type ModelOptions,
} from "../../mod.ts";
import { diffuser, network } from "../support/layered.ts";

const select = suite("lora.model()");

select("chooses layers, and gives each its own settings", () => {
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

select("means layers by name, glob, class, pattern, question and any of several", () => {
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

select("gives the name's settings over the glob's over the class's over the model's", () => {
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

select("adapts normalizations where it is asked to, by the algorithm for them", () => {
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

select("boft.model leaves out what has no blocks of its size, and says so", () => {
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

select("takes what LyCORIS's and kohya's arguments mean", () => {
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

select("takes LyCORIS's presets by name, by file and as values, narrowed by where", async () => {
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

select.run();
