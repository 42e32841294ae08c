import { writeFile } from "node:fs/promises";
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { merge } from "../../lib/adapter/merge.ts";
import { save } from "../../lib/files/adapters.ts";
import { fromFloat32 } from "../../lib/files/floats.ts";
import { serialize } from "../../lib/files/safetensors.ts";
import { leakless } from "../support/close.ts";
import { lowrank } from "../support/command.ts";
import { folderOf } from "../support/folder.ts";
import { tensor, trained } from "../support/trained.ts";

const verify = suite("lowrank verify");
leakless(verify);
const at = folderOf(verify);
const [base, model, style] = ["base", "model", "style"].map((name) => at(`${name}.safetensors`));

/** A checkpoint of one dense layer. */
const checkpoint = (W: tf.Tensor) => {
  const torch = tf.transpose(W), values = Float32Array.from(torch.dataSync());
  const view = { dtype: "F32", shape: torch.shape, bytes: fromFloat32("F32", values) } as const;
  return serialize([["fc.weight", view]]);
};

verify("finds an adapter at its strength, and ends with 1 where it is not", async () => {
  const W = tensor([24, 32], 5), adapter = trained(["lora", 2, {}], [24, 32]);
  await writeFile(base, checkpoint(W));
  await writeFile(model, checkpoint(merge(W, adapter, { strength: 0.8 })));
  await save(style, new Map([["fc", adapter]]));
  const there = await lowrank("verify", model, style, "--base", base);
  assert.is(there.code, 0);
  assert.match(there.out, /it is in there at strength 0\.800/);
  const { verdict, strength } = JSON.parse(
    (await lowrank("verify", model, style, "--base", base, "--json")).out,
  );
  assert.is(verdict, "yes");
  assert.ok(Math.abs(strength - 0.8) < 1e-4);
  assert.is((await lowrank("verify", base, style, "--base", base)).code, 1);
  assert.is((await lowrank("verify", model)).code, 2);
});

verify.run();
