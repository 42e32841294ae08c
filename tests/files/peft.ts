import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Adapter } from "../../lib/adapter/adapter.ts";
import { delta } from "../../lib/adapter/merge.ts";
import { encode, open, save } from "../../lib/files/adapters.ts";
import { parse, serialize, type TensorView } from "../../lib/files/safetensors.ts";
import { close, leakless } from "../support/close.ts";
import { deltaOf, f32, free, pair, refusal, torch, trained } from "../support/few.ts";

const peft = suite("peft");
leakless(peft);

const peftPair = (config?: object) =>
  pair("base_model.model.a.fc.lora_A.weight", "base_model.model.a.fc.lora_B.weight", {}, {
    config,
  });
const LORA = { peft_type: "LORA", r: 2, lora_alpha: 3 };

for (
  const [name, config, scale] of [
    ["alpha / r", LORA, 3 / 2],
    ["alpha / √r with use_rslora", { ...LORA, use_rslora: true }, 3 / Math.sqrt(2)],
    ["the rank and alpha of patterns", {
      ...LORA,
      r: 8,
      rank_pattern: { fc: 2 },
      alpha_pattern: { "a.fc": 5 },
    }, 5 / 2],
    ["the first pattern that ends the path at a dot", {
      ...LORA,
      alpha_pattern: { c: 7, "^fc": 9, "a\\.(fc|x)": 1, fc: 11 },
    }, 1 / 2],
    ["alpha / r on a base that lies the other way", { ...LORA, fan_in_fan_out: true }, 3 / 2],
  ] as const
) {
  peft(`its scale is ${name}`, async () => {
    const { adapters, leftovers, dialect } = await peftPair(config);
    assert.is(dialect, "peft");
    assert.is(leftovers.size, 0);
    close(delta(adapters.get("a.fc")!), deltaOf(scale));
    free(adapters.values());
  });
}

for (
  const [name, config, rule] of [
    ["without a configuration", undefined, /current file has none beside it, pass { config }/],
    ["of a configuration that is no JSON", "peft", /adapter_config.json as it must be JSON/],
    [
      "of another rank",
      { ...LORA, r: 4 },
      /"base_model.model.a.fc|"a.fc".*current rank is 2 where/,
    ],
    ["without its magnitude", { ...LORA, use_dora: true }, /"a.fc".*without a magnitude/],
    [
      "whose initial weights moved the base",
      { ...LORA, init_lora_weights: "pissa_niter_4" },
      /init_lora_weights.*untouched base/,
    ],
    ["of a kind of forward that is not LoRA's", { ...LORA, use_qalora: true }, /use_qalora/],
    ["of an alpha that is no number", { ...LORA, lora_alpha: "x" }, /"lora_alpha" of "a.fc"/],
    ["of a pattern that is none", { ...LORA, rank_pattern: { "(": 2 } }, /regular expression/],
  ] as const
) {
  peft(`a file ${name} is refused`, async () => {
    const error = await refusal(peftPair(config as object));
    assert.instance(error, SyntaxError);
    assert.match(error.message, rule);
  });
}

peft(
  "a kind that is not known, a trained bias and another module's weights are left over",
  async () => {
    const key = (rest: string) => `base_model.model.${rest}`;
    const files = serialize([
      [key("a.lora_A.weight"), f32([2, 6], 1)],
      [key("a.lora_B.weight"), f32([8, 2], 2)],
      [key("b.lora_A.weight"), f32([2, 6], 1)],
      [key("b.lora_B.weight"), f32([8, 2], 2)],
      [key("b.lora_B.bias"), f32([8], 3)],
      [key("head.weight"), f32([4, 4], 4)],
    ]);
    const known = await open(files, { config: LORA });
    assert.equal([...known.adapters.keys()], ["a"]);
    assert.equal(
      [...known.leftovers.keys()],
      ["b.lora_A.weight", "b.lora_B.bias", "b.lora_B.weight", "head.weight"].map(key),
    );
    free(known.adapters.values());
    const vera = await open(files, { config: { ...LORA, peft_type: "VERA" } });
    assert.is(vera.adapters.size, 0);
    assert.is(vera.leftovers.size, 6);
  },
);

peft(
  "its configuration, kept in the metadata of another dialect's file, makes that none of PEFT's",
  async () => {
    const given = new Map([["a", trained("lora", [6, 8], 2, { alpha: 3 })]]);
    const metadata = { "adapter_config.json": JSON.stringify({ ...LORA, lora_alpha: 99 }) };
    for (const dialect of ["kohya", "diffusers"] as const) {
      const file = await open(await encode(given, { dialect, metadata }));
      assert.is(file.dialect, dialect);
      close(delta(file.adapters.get("a")!), delta(given.get("a")!));
      free(file.adapters.values());
    }
  },
);

peft("the name of an adapter is no part of a path, a layer of that name is", async () => {
  const key = (side: string) => `base_model.model.default.fc.lora_${side}.default.weight`;
  const { adapters } = await pair(key("A"), key("B"), {}, { config: LORA });
  assert.equal([...adapters.keys()], ["default.fc"]);
  free(adapters.values());
});

peft("(IA)^3 on the other side than its configuration says is refused", async () => {
  const l = serialize([["base_model.model.a.ia3_l", f32([8, 1], 1)]]);
  const config = { peft_type: "IA3", feedforward_modules: ["a"] };
  const error = await refusal(open(l, { config }));
  assert.match(error.message, /"a".*ia3_l is 8,1 where one of feedforward_modules/);
});

peft("LoKr of two whole factors has the scale that LyCORIS gives it no place for", async () => {
  const factors: [string, TensorView][] = [
    ["base_model.model.a.lokr_w1", f32([2, 3], 1)],
    ["base_model.model.a.lokr_w2", f32([4, 2], 2)],
  ];
  const config = { peft_type: "LOKR", r: 8, alpha: 4 };
  const { adapters } = await open(serialize(factors), { config });
  const [once, half] = [delta(adapters.get("a")!), torch([2, 3], 1)];
  const [first] = once.dataSync();
  const product = half.dataSync()[0] * torch([4, 2], 2).dataSync()[0];
  assert.ok(Math.abs(first - product / 2) < 1e-6);
  free(adapters.values());
});

peft(
  "rank_pattern and alpha_pattern tell mixed modules apart, where one path ends another too",
  async () => {
    const given = new Map([
      ["fc", trained("lora", [6, 8], 2, { alpha: 1 })],
      ["a.fc", trained("lora", [6, 8], 3, { alpha: 5 })],
      ["b.fc", trained("lora", [6, 8], 3, { alpha: 5 })],
    ]);
    const { metadata } = parse(await encode(given, { dialect: "peft" }));
    const config = JSON.parse(metadata["adapter_config.json"]);
    assert.equal([config.r, config.lora_alpha], [3, 5]);
    assert.equal([config.rank_pattern, config.alpha_pattern], [{ "^fc": 2 }, { "^fc": 1 }]);
    assert.is(config.target_modules, "^(fc|a\\.fc|b\\.fc)$");
    const back = await open(await encode(given, { dialect: "peft" }));
    for (const [name, adapter] of given) close(delta(back.adapters.get(name)!), delta(adapter));
    free(back.adapters.values());
  },
);

peft("the magnitude of a dense layer is [O], of a convolution [1, O, 1, 1]", async () => {
  const dora = (shape: number[]) => trained("lora", shape, 2, { dora: "output" });
  const given = new Map([["fc", dora([6, 8])], ["conv", dora([3, 3, 6, 8])]]);
  const { tensors } = parse(await encode(given, { dialect: "peft" }));
  const shape = (layer: string) =>
    tensors.get(`base_model.model.${layer}.lora_magnitude_vector`)!.shape;
  assert.equal([shape("fc"), shape("conv")], [[8], [1, 8, 1, 1]]);
});

peft(
  "a folder has two files, keeps what else its configuration says, and is opened by its path",
  async () => {
    const folder = await mkdtemp(join(tmpdir(), "lowrank-"));
    try {
      const path = join(folder, "adapter"),
        given = new Map([["a.fc", trained("lora", [6, 8], 2, { alpha: 5 })]]);
      const before = JSON.stringify({
        peft_type: "LORA",
        task_type: "CAUSAL_LM",
        fan_in_fan_out: true,
        r: 64,
      });
      await save(path, given, {
        dialect: "peft",
        metadata: { "adapter_config.json": before, note: "x" },
      });
      assert.equal((await readdir(path)).sort(), [
        "adapter_config.json",
        "adapter_model.safetensors",
      ]);
      const text = await readFile(join(path, "adapter_config.json"), "utf8"),
        config = JSON.parse(text);
      assert.equal([config.task_type, config.fan_in_fan_out, config.r], ["CAUSAL_LM", true, 2]);
      for (const place of [path, join(path, "adapter_model.safetensors")]) {
        const file = await open(place);
        assert.equal(file.metadata, { format: "pt", note: "x", "adapter_config.json": text });
        close(delta(file.adapters.get("a.fc")!), delta(given.get("a.fc")!));
        free(file.adapters.values());
      }
      await save(join(path, "one.safetensors"), given, { dialect: "peft" });
      const one = await open(join(path, "one.safetensors"));
      assert.is(one.dialect, "peft");
      free(one.adapters.values());
      const bare = serialize([["fc.lora_A.weight", f32([2, 6], 1)], [
        "fc.lora_B.weight",
        f32([8, 2], 2),
      ]]);
      await writeFile(join(path, "adapter_model.safetensors"), bare);
      const told = await open(path); // keys that do not begin as PEFT's, in a file that is called as its is
      close(delta(told.adapters.get("fc")!), deltaOf(config.lora_alpha / 2));
      free(told.adapters.values());
      await rm(join(path, "adapter_model.safetensors"));
      const error = await refusal(open(path));
      assert.match(
        error.message,
        /must have adapter_model.safetensors or pytorch_lora_weights.safetensors/,
      );
    } finally {
      await rm(folder, { recursive: true });
    }
  },
);

peft("kinds that PEFT has no one configuration for are refused by name", async () => {
  const refused = async (adapters: [string, Adapter][], rule: RegExp) => {
    const error = await refusal(encode(new Map(adapters), { dialect: "peft" }));
    assert.instance(error, TypeError);
    assert.match(error.message, rule);
  };
  const plain = trained("lora", [6, 8], 2, {});
  await refused([["a", plain], ["b", trained("ia3", [6, 8], 0, {})]], /"b".*is all LORA.*IA3/);
  await refused(
    [["a", plain], ["b", trained("lora", [6, 8], 2, { dora: "output" })]],
    /"a".*all modules have a magnitude/,
  );
  await refused([
    ["a", trained("lokr", [36, 36], 1, { factor: 2 })],
    ["b", trained("lokr", [36, 36], 1, { factor: 3 })],
  ], /"b".*decompose_factor/);
  await refused(
    [["lora_unet_nowhere", plain]],
    /"lora_unet_nowhere".*paths of modules.*pass { model/,
  );
});

peft.run();
