import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Model, modelOf, type Names, namesOf, rename } from "../../lib/files/names.ts";
import { golden, hasGolden } from "../support/fixtures.ts";

/** A module as diffusers' and kohya's own code calls it: see the fixtures' README. */
interface Row {
  name: string;
  kohya: string;
  kohya_ldm: string | null;
  ldm: string;
  ldm_bias?: string | null;
  ldm_rows?: [number, number];
  ldm_transposed?: boolean;
}

const names = suite("namesOf()");
const check = hasGolden ? names : names.skip;

for (const model of ["sd15", "sd21", "sdxl"] as const) {
  check(`${model} has the modules of the census, called as everybody calls them`, () => {
    const { models } = JSON.parse(readFileSync(golden("sd/names.json"), "utf8")) as {
      models: Record<string, Record<string, Row[]>>;
    };
    const { vae: _, ...networks } = models[model];
    const found = new Map<string, Names>(namesOf(model).map((row) => [row.diffusers, row]));
    for (const [network, rows] of Object.entries(networks)) {
      for (const row of rows) {
        const path = `${network}.${row.name}`, own = found.get(path)!;
        const [from = 0, to = 1] = row.ldm_rows ?? [];
        assert.is(own?.path, row.name, path);
        assert.is(own.flat, row.kohya, path);
        assert.is(own.sgm ?? null, row.kohya_ldm, path);
        assert.is(own.kohya, model === "sdxl" && row.kohya_ldm || row.kohya, path);
        assert.is(own.ldm!.weight, row.ldm, path);
        assert.is(own.ldm!.third, row.ldm_rows && from / (to - from), path);
        assert.is(own.ldm!.transposed ?? false, row.ldm_transposed ?? false, path);
        if (row.ldm_bias !== undefined) assert.is(own.ldm!.bias ?? null, row.ldm_bias, path);
        found.delete(path);
      }
    }
    assert.equal([...found.keys()], [], "and no others");
  });
}

names.run();

const renaming = suite("rename()");
const every = (model: Model) =>
  new Map(namesOf(model).map(({ diffusers }) => [diffusers, diffusers]));

for (const model of ["sd15", "sd21", "sdxl"] as const) {
  renaming(`${model}: every spelling leads back to every module`, () => {
    const modules = every(model);
    for (const to of ["kohya", "flat", "sgm"] as const) {
      const there = rename(modules, { to, model });
      assert.is(there.size, modules.size);
      assert.equal(rename(there, { to: "diffusers", model }), modules, to);
    }
  });
}

renaming("knows what kohya's names leave open: to_out_0, ff_net_0_proj, time_emb_proj", () => {
  const kohya = [
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0",
    "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj",
    "lora_unet_up_blocks_3_resnets_2_time_emb_proj",
    "lora_te_text_model_encoder_layers_11_self_attn_out_proj",
    "lora_te1_text_model_encoder_layers_0_mlp_fc1",
  ];
  const values = new Map(kohya.map((name, i) => [name, i]));
  assert.equal([...rename(values, { to: "diffusers", model: "sd15" })], [
    ["unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0", 0],
    ["unet.mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj", 1],
    ["unet.up_blocks.3.resnets.2.time_emb_proj", 2],
    ["text_encoder.text_model.encoder.layers.11.self_attn.out_proj", 3],
    ["text_encoder.text_model.encoder.layers.0.mlp.fc1", 4],
  ]);
});

renaming("counts LDM's blocks from the modules at hand, not from a published model", () => {
  const resnets = (block: string, n: number) =>
    Array.from({ length: n }, (_, j) => `unet.${block}.resnets.${j}.conv1`);
  const modules = [
    ...resnets("down_blocks.0", 1),
    "unet.down_blocks.0.downsamplers.0.conv",
    ...resnets("down_blocks.1", 1),
    ...resnets("up_blocks.0", 2),
    "unet.up_blocks.0.upsamplers.0.conv",
    ...resnets("up_blocks.1", 2),
  ];
  const model = { family: "sd1", modules } as const;
  const ldm = rename(new Map(modules.map((module) => [module, 0])), { to: "ldm", model });
  assert.equal(
    [...ldm.keys()].map((key) => key.replace("model.diffusion_model.", "")),
    [
      "input_blocks.1.0.in_layers.2",
      "input_blocks.2.0.op",
      "input_blocks.3.0.in_layers.2",
      "output_blocks.0.0.in_layers.2",
      "output_blocks.1.0.in_layers.2",
      "output_blocks.1.1.conv",
      "output_blocks.2.0.in_layers.2",
      "output_blocks.3.0.in_layers.2",
    ],
  );
});

renaming("gives any other network's modules their own names, dots and all", () => {
  const found = rename(new Map([["block_0_conv_a", 1]]), {
    to: "diffusers",
    model: ["block.0.conv_a", "block.1.conv_a"],
  });
  assert.equal([...found], [["block.0.conv_a", 1]]);
});

renaming("refuses a name that the model does not have, one of two, and two that become one", () => {
  const refused = (name: string, model: Model, rule: RegExp) =>
    assert.throws(() => rename(new Map([[name, 0]]), { to: "diffusers", model }), rule);
  refused("lora_unet_nowhere", "sd15", /"lora_unet_nowhere".*must be a module/);
  refused("text_model.final_layer_norm", "sdxl", /name is that of several/);
  refused("conv_a", ["conv_a", "conv.a"], /name is that of several/);
  const qk = ["q", "k"].map((part) =>
    [`text_encoder.text_model.encoder.layers.0.self_attn.${part}_proj`, part] as const
  );
  assert.throws(() => rename(new Map(qk), { to: "ldm", model: "sd21" }), /must be its own/);
});

renaming.run();

const models = suite("modelOf()");

models("is the first published model that has all names, or none", () => {
  assert.is(modelOf(["lora_unet_conv_in", "lora_te_text_model_final_layer_norm"]), "sd15");
  assert.is(modelOf(["lora_te_text_model_encoder_layers_22_mlp_fc1"]), "sd21");
  assert.is(modelOf(["lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q"]), "sdxl");
  assert.is(modelOf(["lora_unet_conv_in", "lora_unet_nowhere"]), undefined);
});

models.run();
