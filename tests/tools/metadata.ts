import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { hashes } from "../../lib/files/hashes.ts";
import { open, write } from "../../lib/files/safetensors.ts";
import { lowrank } from "../support/command.ts";

const metadata = suite("lowrank metadata");
let folder = "", file = "";

metadata.before(async () => {
  folder = await mkdtemp(join(tmpdir(), "lowrank-"));
  file = join(folder, "a.safetensors");
  const bytes = () => new Uint8Array(Float32Array.of(1, 2).buffer);
  await write(file, [{ name: "x", dtype: "F32", shape: [2], bytes }], {
    author: "me",
    sshs_model_hash: "old",
  });
});
metadata.after(() => rm(folder, { recursive: true }));

metadata("shows what the file has", async () => {
  const { code, out } = await lowrank("metadata", file, "--json");
  assert.is(code, 0);
  assert.equal(JSON.parse(out), { author: "me", sshs_model_hash: "old" });
});

metadata("sets, removes and keeps the tensors' bytes, and makes hashes right", async () => {
  const output = join(folder, "b.safetensors");
  const { code } = await lowrank(
    ...["metadata", file, "--remove", "author", "--set", "title=a=b", "-o", output],
  );
  assert.is(code, 0);
  await using before = await open(file);
  await using after = await open(output);
  assert.is(after.metadata.title, "a=b");
  assert.is(after.metadata.author, undefined);
  assert.equal((await after.read("x")).bytes, (await before.read("x")).bytes);
  const { sshs_model_hash } = await hashes([after.entry("x")], after.metadata);
  assert.is(after.metadata.sshs_model_hash, sshs_model_hash);
});

metadata("strips everything but what is kept", async () => {
  const output = join(folder, "c.safetensors");
  await lowrank("metadata", file, "--strip", "--keep", "author", "-o", output);
  await using after = await open(output);
  assert.equal(after.metadata, { author: "me" });
});

metadata("leaves a file that is there, and one that it cannot change", async () => {
  const before = await readFile(file);
  const there = await lowrank("metadata", file, "--set", "a=b", "-o", file);
  assert.is(there.code, 1);
  assert.match(there.err, "--force");
  const nowhere = await lowrank("metadata", file, "--set", "a=b");
  assert.is(nowhere.code, 2);
  const missing = await lowrank("metadata", file, "--remove", "nothing", "--in-place");
  assert.is(missing.code, 1);
  assert.match(missing.err, "author");
  assert.equal(await readFile(file), before);
  assert.is((await lowrank("metadata", file, "--set", "a=b", "--in-place")).code, 0);
  assert.not.equal(await readFile(file), before);
});

metadata("says in one line what it cannot open", async () => {
  const { code, err, out } = await lowrank("metadata", join(folder, "none"));
  assert.is(code, 1);
  assert.is(out, "");
  assert.match(err, /^Cannot open "[^"]*none" as it must exist: current answer is ENOENT\n$/);
});

metadata.run();
