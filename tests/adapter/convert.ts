import { readFileSync } from "node:fs";
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { blockOf } from "../../lib/adapter/block.ts";
import { convert } from "../../lib/adapter/convert.ts";
import { delta, merge } from "../../lib/adapter/merge.ts";
import { close, leakless } from "../support/close.ts";
import { golden, hasGolden } from "../support/fixtures.ts";
import { ADDITIVE, type Row, tensor, told, trained } from "../support/trained.ts";

const converts = suite("convert()");
leakless(converts);

const DORA: Row[] = [
  ["loha", 2, { dora: "output", alpha: 1 }],
  ["lokr", 1, { dora: "input", factor: 2 }],
];
for (const row of [...ADDITIVE, ...DORA]) {
  converts(`${told(row)} to lora computes the same, at every strength`, () => {
    for (const shape of [[8, 12], [1, 1, 8, 12], [3, 3, 8, 12]]) {
      const base = tensor(shape, 1), adapter = trained(row, shape), lora = convert(adapter, "lora");
      assert.is(lora.algorithm, "lora");
      assert.is(lora.factors.core, undefined);
      for (const strength of [1, -0.6]) {
        close(merge(base, lora, { strength }), merge(base, adapter, { strength }));
      }
    }
  });
}

converts(
  "to its own algorithm is a copy without a core; to any other than lora it is refused",
  () => {
    const lokr = trained(ADDITIVE[5], [8, 12]), same = convert(lokr, "lokr");
    assert.is.not(same.factors.w1, lokr.factors.w1);
    close(delta(same), delta(lokr));
    const tensors = tf.memory().numTensors;
    assert.throws(() => convert(lokr, "loha"), /Cannot convert lokr to loha/);
    assert.throws(() => convert(trained(["ia3", 0, {}], [8, 12]), "lora"), /Cannot convert ia3/);
    assert.ok(tf.memory().numTensors >= tensors);
  },
);

converts.run();

const blocks = suite("blockOf()");
blocks("is one label by every dialect's name", () => {
  assert.is(blockOf("lora_unet_down_blocks_0_attentions_1_proj_in"), "IN02");
  assert.is(blockOf("down_blocks.2.downsamplers.0.conv"), "IN09");
  assert.is(blockOf("lora_unet_mid_block_attentions_0_proj_in"), "MID");
  assert.is(blockOf("lora_unet_up_blocks_3_resnets_2_conv1"), "OUT11");
  assert.is(blockOf("model.diffusion_model.output_blocks.5.2.conv.weight"), "OUT05");
  assert.is(blockOf("lora_te_text_model_encoder_layers_3_mlp_fc1"), "BASE");
  assert.is(blockOf("conv_in"), "IN00");
});
if (hasGolden) {
  blocks("is the block of the UNet's own names for every layer of SD 1.5, 2.1 and XL", () => {
    const { models } = JSON.parse(readFileSync(golden("sd/names.json"), "utf8"));
    let count = 0;
    for (const { unet } of Object.values(models) as { unet: Record<string, string>[] }[]) {
      for (const { name, kohya, kohya_ldm, ldm } of unet) {
        for (const other of [kohya, kohya_ldm, ldm]) {
          if (other) assert.is(blockOf(other), blockOf(name), `${other} and ${name}`);
        }
        count++;
      }
    }
    assert.ok(count > 1000);
  });
}
blocks.run();
