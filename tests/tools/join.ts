import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as tf from "@tensorflow/tfjs";
import type { Adapter } from "../../lib/adapter/adapter.ts";
import { delta, merge } from "../../lib/adapter/merge.ts";
import { open, save } from "../../lib/files/adapters.ts";
import { unflip } from "../../lib/files/layout.ts";
import { write } from "../../lib/files/safetensors.ts";
import { close, leakless } from "../support/close.ts";
import { lowrank } from "../support/command.ts";
import { folderOf } from "../support/folder.ts";
import { tensor, trained } from "../support/trained.ts";

const join = suite("lowrank join");
leakless(join);
const at = folderOf(join), style = at("style.safetensors"), face = at("face");

/** Two files of one model: kohya's names and PEFT's. */
const CONV = [3, 3, 8, 16], FC = [24, 32];
const STYLE = () =>
  new Map<string, Adapter>([
    ["lora_unet_conv_in", trained(["loha", 2, { alpha: 1 }], CONV)],
    ["lora_unet_mid_block_attentions_0_proj_in", trained(["lokr", 2, { factor: 4 }], FC)],
  ]);
const FACE = () =>
  new Map<string, Adapter>([
    ["conv_in", trained(["lora", 2, { alpha: 4 }], CONV, 5)],
    ["time_embedding.linear_1", trained(["lora", 3, {}], FC, 6)],
  ]);

join("adds what the files add, whatever their algorithms and dialects", async () => {
  await save(style, STYLE());
  await save(face, FACE(), { dialect: "peft" });
  const output = at("both.safetensors");
  const { code, err } = await lowrank("join", `${style}:0.8`, `${face}:-0.5`, "-o", output);
  assert.is(code, 0, err);
  const { adapters, metadata } = await open(output);
  assert.is(metadata["modelspec.merged_from"], "style.safetensors:0.8, face:-0.5");
  const s = STYLE(), f = FACE();
  close(
    delta(adapters.get("lora_unet_conv_in")!),
    tf.add(
      tf.mul(delta(s.get("lora_unet_conv_in")!), 0.8),
      tf.mul(delta(f.get("conv_in")!), -0.5),
    ),
  );
  const alone = "lora_unet_mid_block_attentions_0_proj_in";
  assert.is(adapters.get(alone)!.algorithm, "lokr");
  close(delta(adapters.get(alone)!), tf.mul(delta(s.get(alone)!), 0.8));
  close(
    delta(adapters.get("lora_unet_time_embedding_linear_1")!),
    tf.mul(delta(f.get("time_embedding.linear_1")!), -0.5),
  );
});

join("at a rank misses what the dropped singular values are", async () => {
  const output = at("small.safetensors");
  const { code, out } = await lowrank(
    ...["join", style, face, "-o", output, "--rank", "3", "--json"],
  );
  assert.is(code, 0);
  const { layers } = JSON.parse(out), { adapters } = await open(output), name = "lora_unet_conv_in";
  const whole = tf.add(delta(STYLE().get(name)!), delta(FACE().get("conv_in")!));
  const missed = tf.norm(tf.sub(whole, delta(adapters.get(name)!))).div(tf.norm(whole));
  assert.ok(Math.abs(missed.dataSync()[0] - layers[name].error) < 1e-5);
});

join("of what depends on the base asks for it, and is exact with it", async () => {
  const relative = at("relative.safetensors"),
    output = at("exact.safetensors"),
    ckpt = at("base.safetensors");
  const turned = () => trained(["oft", 4, {}], CONV), W = tensor(CONV, 1);
  await save(relative, new Map([["lora_unet_conv_in", turned()]]));
  const asked = await lowrank("join", `${relative}:0.5`, style, "-o", output);
  assert.is(asked.code, 1);
  assert.match(asked.err, /Cannot join "lora_unet_conv_in" as oft is no sum.*checkpoint/);
  const numbers = Float32Array.from(unflip(W).dataSync());
  const bytes = () => new Uint8Array(numbers.buffer);
  const rest = ["mid_block.attentions.0.proj_in", "time_embedding.linear_1"].map((name) => ({
    name: `unet.${name}.weight`,
    dtype: "F32" as const,
    shape: [32, 24],
    bytes: () => new Uint8Array(32 * 24 * 4),
  }));
  const conv = { name: "unet.conv_in.weight", dtype: "F32" as const, shape: [16, 8, 3, 3], bytes };
  await write(ckpt, [conv, ...rest]);
  const { code, err } = await lowrank(
    ...["join", `${relative}:0.5`, style, "-o", output, "--base", ckpt],
  );
  assert.is(code, 0, err);
  const { adapters } = await open(output), name = "lora_unet_conv_in";
  const expected = tf.add(
    tf.sub(merge(W, turned(), { strength: 0.5 }), W),
    delta(STYLE().get(name)!),
  );
  close(delta(adapters.get(name)!), expected);
});

join.run();
