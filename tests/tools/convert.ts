import { stat } from "node:fs/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Adapter } from "../../lib/adapter/adapter.ts";
import { delta } from "../../lib/adapter/merge.ts";
import { open, save } from "../../lib/files/adapters.ts";
import { write } from "../../lib/files/safetensors.ts";
import { close, leakless } from "../support/close.ts";
import { lowrank } from "../support/command.ts";
import { folderOf } from "../support/folder.ts";
import { trained } from "../support/trained.ts";

const convert = suite("lowrank convert");
leakless(convert);
const at = folderOf(convert), file = at("style.safetensors");
const NAMES = ["unet.mid_block.attentions.0.proj_in", "unet.conv_in"];

const adapters = () =>
  new Map<string, Adapter>([
    [NAMES[0], trained(["lora", 3, { alpha: 2 }], [1, 1, 8, 8])],
    [NAMES[1], trained(["loha", 2, {}], [3, 3, 4, 8])],
  ]);

convert("gives the same ΔW in another dialect, and back", async () => {
  await save(file, adapters(), { metadata: { author: "me" } });
  const steps = [
    [at("peft"), "--dialect", "peft", "--algorithm", "lora"],
    [at("kohya.safetensors"), "--dialect", "kohya", "--model", "sd15"],
    [at("back.safetensors"), "--dialect", "diffusers", "--model", "sd15"],
  ];
  let from = file;
  for (const [to, ...options] of steps) {
    const { code, err } = await lowrank("convert", from, "-o", to, ...options);
    assert.is(code, 0, err);
    from = to;
  }
  const back = await open(from), kohya = await open(at("kohya.safetensors"));
  assert.is(back.dialect, "diffusers");
  assert.is(back.metadata.author, "me");
  assert.ok(kohya.adapters.has("lora_unet_conv_in"));
  for (const [name, adapter] of adapters()) close(delta(back.adapters.get(name)!), delta(adapter));
});

convert("keeps embeddings, and asks what to do with tensors that it does not know", async () => {
  const { adapters: _, leftovers } = await open(file);
  assert.is(leftovers.size, 0);
  const bytes = () => new Uint8Array(4), mixed = at("mixed.safetensors");
  const extra = ["bundle_emb.cat.string_to_param.*", "what.is.this"].map((name) =>
    [name, { name, dtype: "F32", shape: [1], bytes }] as const
  );
  await save(mixed, adapters(), { leftovers: new Map(extra) });
  const output = at("out.safetensors");
  const asked = await lowrank("convert", mixed, "-o", output);
  assert.is(asked.code, 1);
  assert.match(asked.err, "what.is.this");
  assert.is(await stat(output).catch(() => undefined), undefined);
  await lowrank("convert", mixed, "-o", output, "--leftovers", "drop");
  assert.equal([...(await open(output)).leftovers.keys()], [extra[0][0]]);
  await lowrank("convert", mixed, "-o", output, "--leftovers", "keep", "--force");
  assert.is((await open(output)).leftovers.size, 2);
});

convert("says what a file without adapters has", async () => {
  const other = at("other.safetensors");
  await write(other, [{ name: "x", dtype: "F32", shape: [1], bytes: () => new Uint8Array(4) }]);
  const { code, err } = await lowrank("convert", other, "-o", at("nothing.safetensors"));
  assert.is(code, 1);
  assert.match(err, /must hold adapters: current tensors are x\n$/);
});

convert.run();
