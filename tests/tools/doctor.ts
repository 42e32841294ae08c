import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Adapter } from "../../lib/adapter/adapter.ts";
import { save } from "../../lib/files/adapters.ts";
import { serialize } from "../../lib/files/safetensors.ts";
import { leakless } from "../support/close.ts";
import { lowrank } from "../support/command.ts";
import { folderOf } from "../support/folder.ts";
import { type Row, trained } from "../support/trained.ts";

const doctor = suite("lowrank doctor");
leakless(doctor);
const at = folderOf(doctor), file = at("style.safetensors"), scales = at("scales.safetensors");

const NAME = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";
const adapters = (row: Row) => new Map<string, Adapter>([[NAME, trained(row, [24, 32])]]);

doctor("tells what each host makes of a file, for people and as JSON", async () => {
  await save(file, adapters(["loha", 4, { alpha: 1 }]));
  const { code, out } = await lowrank("doctor", file, "--layers");
  assert.is(code, 0);
  assert.match(out, /lycoris +LyCORIS/);
  assert.match(out, /0\.25 ×/);
  const { layers: [{ hosts }] } = JSON.parse((await lowrank("doctor", file, "--json")).out);
  assert.is(hosts.comfyui.right, true);
  assert.type(hosts.kohya.refused, "string");
});

doctor("ends with 1 where a host that is asked for does not read every layer right", async () => {
  assert.is((await lowrank("doctor", file, "--host", "comfyui")).code, 0);
  const { code, err } = await lowrank("doctor", file, "--host", "comfyui", "kohya");
  assert.is(code, 1);
  assert.match(err, "--fix kohya");
  assert.is((await lowrank("doctor", file, "--host", "nobody")).code, 2);
});

doctor("fixes a file for a host, which then reads it right", async () => {
  for (const host of ["lycoris", "kohya", "diffusers"]) {
    const output = at(`${host}.safetensors`);
    const { code, out } = await lowrank("doctor", file, "--fix", host, "-o", output, "--json");
    assert.is(code, 0);
    assert.ok(JSON.parse(out).error <= 1e-6);
    assert.is((await lowrank("doctor", output, "--host", host)).code, 0, host);
  }
  assert.is((await lowrank("doctor", file, "--fix", "peft", "-o", at("peft"))).code, 0);
  assert.equal((await readdir(at("peft"))).sort(), [
    "adapter_config.json",
    "adapter_model.safetensors",
  ]);
  assert.is((await lowrank("doctor", at("peft"), "--host", "peft")).code, 0);
});

doctor("keeps what is there, and writes nothing where there is no fix", async () => {
  const before = await readFile(file);
  assert.is((await lowrank("doctor", file, "--fix", "kohya", "-o", file)).code, 1);
  assert.equal(await readFile(file), before);
  assert.is((await lowrank("doctor", file, "--fix", "kohya")).code, 2);
  assert.is((await lowrank("doctor", file, "-o", at("x.safetensors"))).code, 2);
  await writeFile(at("empty.safetensors"), serialize([]));
  assert.is((await lowrank("doctor", at("empty.safetensors"))).code, 1);
  await save(scales, adapters(["ia3", 0, {}]));
  const { code, err } = await lowrank(
    "doctor",
    scales,
    "--fix",
    "kohya",
    "-o",
    at("x.safetensors"),
  );
  assert.is(code, 1);
  assert.match(err, "--base FILE");
  assert.is(await stat(at("x.safetensors")).then(() => true, () => false), false);
});

doctor.run();
