import { suite } from "uvu";
import * as assert from "uvu/assert";
import { delta } from "../../lib/adapter/merge.ts";
import { encode, open } from "../../lib/files/adapters.ts";
import { parse, serialize } from "../../lib/files/safetensors.ts";
import { close, leakless } from "../support/close.ts";
import { deltaOf, f32, free, pair, trained } from "../support/few.ts";

const diffusers = suite("diffusers");
leakless(diffusers);

const unet = "unet.up.attn1", text = "text_encoder.layers.0.self_attn";
for (
  const [stem, down, up, name] of [
    [`${unet}.to_q`, ".lora_A.weight", ".lora_B.weight", `${unet}.to_q`],
    [`${unet}.to_q`, ".lora_A.default.weight", ".lora_B.default.weight", `${unet}.to_q`],
    [`${unet}.to_out.0`, ".lora.down.weight", ".lora.up.weight", `${unet}.to_out.0`],
    [`${unet}.processor`, ".to_q_lora.down.weight", ".to_q_lora.up.weight", `${unet}.to_q`],
    [`${unet}.processor`, ".to_out_lora.down.weight", ".to_out_lora.up.weight", `${unet}.to_out.0`],
    [
      `${text}.q_proj`,
      ".lora_linear_layer.down.weight",
      ".lora_linear_layer.up.weight",
      `${text}.q_proj`,
    ],
    [text, ".to_out_lora.down.weight", ".to_out_lora.up.weight", `${text}.out_proj`],
    ["mid.conv", ".lora_A.weight", ".lora.up.weight", "mid.conv"],
  ]
) {
  diffusers(`${down} of ${stem} is ${name}`, async () => {
    const { adapters, leftovers, dialect } = await pair(stem + down, stem + up);
    assert.is(dialect, "diffusers");
    assert.is(leftovers.size, 0);
    close(delta(adapters.get(name)!), deltaOf(1));
    free(adapters.values());
  });
}

diffusers("the configuration in the metadata gives the scale, by network or for all", async () => {
  const fields = { r: 2, lora_alpha: 1, alpha_pattern: { "a.fc": 3 } };
  const packed = Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [`unet.${key}`, value]),
  );
  for (const [prefix, config] of [["unet.", packed], ["", fields]] as const) {
    const name = `${prefix}a.fc`;
    const metadata = { lora_adapter_metadata: JSON.stringify(config) };
    const { adapters } = await pair(`${name}.lora_A.weight`, `${name}.lora_B.weight`, metadata);
    close(delta(adapters.get(name)!), deltaOf(3 / 2));
    free(adapters.values());
  }
});

diffusers("a key for alpha goes before the metadata", async () => {
  const { adapters } = await open(serialize([
    ["unet.fc.lora_A.weight", f32([2, 6], 1)],
    ["unet.fc.lora_B.weight", f32([8, 2], 2)],
    ["unet.fc.alpha", {
      dtype: "F32",
      shape: [],
      bytes: new Uint8Array(Float32Array.of(5).buffer),
    }],
  ], { lora_adapter_metadata: '{"unet.r":2,"unet.lora_alpha":1}' }));
  close(delta(adapters.get("unet.fc")!), deltaOf(5 / 2));
  free(adapters.values());
});

diffusers("what is written has scale 1, whoever reads it, and says so", async () => {
  const given = new Map([
    ["unet.a.fc", trained("lora", [6, 8], 2, { alpha: 5 })],
    ["unet.b.fc", trained("lora", [6, 8], 3, { alpha: 1 })],
  ]);
  const { tensors, metadata } = parse(await encode(given, { dialect: "diffusers" }));
  assert.equal(
    [...tensors.keys()].sort(),
    ["a", "b"].flatMap((block) => ["A", "B"].map((side) => `unet.${block}.fc.lora_${side}.weight`)),
  );
  const { adapters } = await open(serialize(tensors)); // without a word
  for (const [name, adapter] of given) close(delta(adapters.get(name)!), delta(adapter));
  const told = JSON.parse(metadata.lora_adapter_metadata);
  assert.equal(["r", "lora_alpha"].map((field) => told[`unet.${field}`]), [2, 2]);
  assert.equal(told["unet.alpha_pattern"], { "b.fc": 3 });
  free(adapters.values());
});

// transformers 5 calls its modules encoder.…, and before text_model.encoder.…; PEFT compares the ends of paths
diffusers("a text encoder's configuration names modules of transformers 4 and 5", async () => {
  const paths = ["fc1", "fc2"].map((name) => `encoder.layers.0.mlp.${name}`);
  const given = new Map(
    paths.map((path, i) => [
      `text_encoder.text_model.${path}`,
      trained("lora", [6, 8], 2 + i, { dora: "output" }),
    ]),
  );
  const { tensors, metadata } = parse(await encode(given, { dialect: "diffusers" }));
  const told = JSON.parse(metadata.lora_adapter_metadata);
  assert.equal(told["text_encoder.target_modules"], paths);
  assert.equal(told["text_encoder.rank_pattern"], { [paths[1]]: 3 });
  assert.ok(tensors.has(`text_encoder.text_model.${paths[0]}.lora_magnitude_vector.weight`));
  const { adapters } = await open(serialize(tensors, metadata));
  for (const [name, { factors }] of given) {
    close(adapters.get(name)!.factors.magnitude!, factors.magnitude!);
  }
  free(adapters.values());
});

diffusers("two tensors for one factor belong to no adapter", async () => {
  const { adapters, leftovers } = await open(serialize([
    ["a.lora_A.weight", f32([2, 6], 1)],
    ["a.lora.down.weight", f32([2, 6], 1)],
    ["a.lora_B.weight", f32([8, 2], 2)],
  ]));
  assert.equal([adapters.size, leftovers.size], [0, 3]);
});

diffusers.run();
