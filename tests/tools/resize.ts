import { readFile, stat } from "node:fs/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Adapter } from "../../lib/adapter/adapter.ts";
import { delta } from "../../lib/adapter/merge.ts";
import { open, save } from "../../lib/files/adapters.ts";
import { close, leakless } from "../support/close.ts";
import { lowrank } from "../support/command.ts";
import { folderOf } from "../support/folder.ts";
import { trained } from "../support/trained.ts";

const resize = suite("lowrank resize");
leakless(resize);
const at = folderOf(resize), file = at("style.safetensors");

const adapters = () =>
  new Map<string, Adapter>([
    ["conv", trained(["lora", 6, {}], [3, 3, 8, 16])],
    ["fc", trained(["loha", 3, {}], [24, 32])],
  ]);

resize("makes a file of the rank, and tells each layer's error", async () => {
  await save(file, adapters(), { metadata: { ss_network_dim: "6", author: "me" } });
  const { code, out } = await lowrank(
    ...["resize", file, "--rank", "2", "--conv_rank=3", "-o", at("small.safetensors"), "--json"],
  );
  assert.is(code, 0);
  const { layers } = JSON.parse(out);
  const small = await open(at("small.safetensors"));
  assert.is(small.adapters.get("conv")!.rank, 3);
  assert.is(small.adapters.get("fc")!.rank, 2);
  assert.is(small.metadata.author, "me");
  for (const [name, adapter] of adapters()) {
    const whole = delta(adapter), missed = whole.sub(delta(small.adapters.get(name)!));
    const error = missed.norm().div(whole.norm()).dataSync()[0];
    assert.ok(Math.abs(error - layers[name].error) < 1e-5, `${name}: ${error}`);
  }
});

resize("keeps the whole file below the bytes that it may have", async () => {
  for (const most of [2500, 6000]) {
    const output = at(`${most}.safetensors`);
    assert.is((await lowrank("resize", file, "--bytes", `${most + 4000}`, "-o", output)).code, 0);
    assert.ok((await stat(output)).size <= most + 4000);
  }
});

resize("keeps ΔW where the rank is no smaller", async () => {
  await lowrank("resize", file, "--error", "0", "-o", at("same.safetensors"));
  const { adapters: same } = await open(at("same.safetensors"));
  for (const [name, adapter] of adapters()) close(delta(same.get(name)!), delta(adapter));
});

resize("writes nothing in a dry run, without a rule, or over a file that is there", async () => {
  const before = await readFile(file), output = at("none.safetensors");
  const dry = await lowrank("resize", file, "--rank", "2", "-o", output, "--dry-run");
  assert.is(dry.code, 0);
  assert.match(dry.out, "would write");
  assert.is((await lowrank("resize", file, "-o", output)).code, 2);
  assert.is((await lowrank("resize", file, "--rank", "two", "-o", output)).code, 2);
  assert.is((await lowrank("resize", file, "--rank", "0", "-o", output)).code, 1);
  const over = await lowrank("resize", file, "--rank", "2", "-o", file);
  assert.is(over.code, 1);
  assert.match(over.err, "--force");
  assert.equal(await readFile(file), before);
  assert.is(await stat(output).catch(() => undefined), undefined);
});

resize.run();
