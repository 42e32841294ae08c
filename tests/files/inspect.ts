import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Adapter, delta, files, full, ia3, lora } from "../../mod.ts";
import { inspect } from "../../lib/files/inspect.ts";
import { serialize } from "../../lib/files/safetensors.ts";
import { leakless } from "../support/close.ts";
import { f32, free } from "../support/few.ts";
import { golden, hasGolden } from "../support/fixtures.ts";
import { ADDITIVE, told, trained } from "../support/trained.ts";

const inspection = suite("files.inspect()");
leakless(inspection);

const encode = (adapters: Record<string, Adapter>, options: files.SaveOptions = {}) =>
  files.encode(new Map(Object.entries(adapters)), options);

for (const row of ADDITIVE) {
  inspection(`tells the norm of what is added: ${told(row)}`, async () => {
    const adapter = trained(row, [3, 3, 12, 16]);
    const norm = tf.tidy(() => tf.norm(tf.reshape(delta(adapter), [-1])).dataSync()[0]);
    const { layers: [layer], norm: all } = await inspect(await encode({ conv: adapter }));
    assert.ok(Math.abs(layer.norm! - norm) < 2e-5 * norm, `${layer.norm}, expected ${norm}`);
    assert.is(layer.norm, all);
    assert.ok(Math.abs(layer.spectrum!.largest[0] / norm) <= 1.00001);
  });
}

inspection("counts what is there, and leaves open what depends on the base", async () => {
  const bytes = await encode({
    a: lora.create([6, 8], 2, { alpha: 3 }),
    b: ia3.create([6, 8]),
    c: full.create([6, 8], { bias: true }),
  }, { dtype: "f16" });
  const { algorithms, layers, parameters, dialect } = await inspect(bytes);
  const [a, b, c] = ["a", "b", "c"].map((name) => layers.find((layer) => layer.name === name)!);
  assert.equal(algorithms, { ia3: 1, lora: 1, full: 1 });
  assert.is(dialect, "kohya");
  assert.is(parameters, 2 * (6 + 8) + 8 + 48 + 8);
  assert.equal([a.scale, a.dtypes, a.bytes], [1.5, ["F16"], 2 * (28 + 1)]);
  assert.equal([b.norm, b.spectrum], [undefined, undefined]);
  assert.is(c.norm, 0);
});

inspection("effective and stable rank are r where all singular values are one", async () => {
  const down = tf.eye(8, 3) as tf.Tensor2D, up = tf.eye(3, 10) as tf.Tensor2D;
  const adapter = { ...lora.create([8, 10], 3), factors: { down, up } };
  const { layers: [{ spectrum }] } = await inspect(await encode({ a: adapter }));
  assert.equal([spectrum!.rank, spectrum!.rank90], [3, 3]);
  for (const rank of [spectrum!.effectiveRank, spectrum!.stableRank]) {
    assert.ok(Math.abs(rank - 3) < 1e-6, String(rank));
  }
});

inspection(
  "leftovers, tags of all folders, hashes that are stale, numbers that are none",
  async () => {
    const metadata = {
      ss_tag_frequency: JSON.stringify({ one: { cat: 2, dog: 1 }, two: { "cat ": 3 } }),
      sshs_model_hash: "stale",
    };
    const nan = new Uint8Array(Float32Array.from({ length: 12 }, () => NaN).buffer);
    const bytes = serialize([
      ["lycoris_a.lora_down.weight", { dtype: "F32", shape: [2, 6], bytes: nan }],
      ["lycoris_a.lora_up.weight", f32([8, 2], 1)],
      ["odd.weight", f32([2], 2)],
    ], metadata);
    const { leftovers, tags, hashes, layers: [layer] } = await inspect(bytes);
    assert.equal(leftovers, ["odd.weight"]);
    assert.equal(tags, [["cat", 5], ["dog", 1]]);
    assert.equal(hashes.stored, { sshs_model_hash: "stale" });
    assert.is(hashes.computed.sshs_model_hash.length, 64);
    assert.is(layer.broken, "down has a number that is not finite");
  },
);

inspection("guesses the base by metadata, by the text that attention reads, by names", async () => {
  const names = {
    sdxl: "lora_te2_text_model_encoder_layers_0_mlp_fc1",
    sd15: "lora_unet_mid_block_attentions_0_proj_in",
  };
  for (const [model, name] of Object.entries(names)) {
    const bytes = await encode({ [name]: lora.create([8, 8], 1) });
    assert.is((await inspect(bytes)).base?.model, model);
  }
  const text = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k";
  const bytes = await encode({ [text]: lora.create([1024, 8], 1) });
  assert.is((await inspect(bytes)).base?.model, "sd21");
  const told = await encode({ a: lora.create([8, 8], 1) }, {
    metadata: { ss_base_model_version: "sdxl_base_v1-0" },
  });
  assert.equal((await inspect(told)).base, { model: "sdxl", by: "ss_base_model_version" });
  assert.is((await inspect(await encode({ a: lora.create([8, 8], 1) }))).base, undefined);
});

for (const dialect of ["peft", "diffusers"] as const) {
  inspection(`reads ${dialect} as it reads kohya`, async () => {
    const adapter = trained(["lora", 2, { alpha: 3 }], [6, 8]);
    const [one, two] = [await encode({ a: adapter }), await encode({ a: adapter }, { dialect })];
    const [kohya, other] = [await inspect(one), await inspect(two)];
    assert.is(other.dialect, dialect);
    assert.ok(Math.abs(kohya.norm - other.norm) < 1e-6 * kohya.norm);
  });
}

if (hasGolden) {
  inspection("what is computed is JSON, of every file that LyCORIS wrote", async () => {
    for (const stem of ["lora_dora", "mixed_maps", "boft", "glora", "kohya_lokr_full", "tlora"]) {
      const found = await inspect(golden(join("wholefile_dev", `${stem}.safetensors`)));
      assert.equal(JSON.parse(JSON.stringify(found)), found, stem);
      const file = await files.open(golden(join("wholefile_dev", `${stem}.safetensors`)));
      assert.is(found.layers.length, file.adapters.size);
      free(file.adapters.values());
    }
  });
}

inspection.run();
