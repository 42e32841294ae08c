import { readFileSync } from "node:fs";
import { copyFile, readdir, readFile, rm, writeFile } from "node:fs/promises";
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { open } from "../../lib/files/safetensors.ts";
import { distance, leakless, TOLERANCE } from "../support/close.ts";
import { lowrank } from "../support/command.ts";
import { golden, hasGolden } from "../support/fixtures.ts";
import { folderOf } from "../support/folder.ts";
import {
  channelsLast,
  loadBase,
  loadTensors,
  textEncoder,
  under,
  unet,
} from "../support/networks.ts";

const whole = suite("lowrank merge, whole files");
leakless(whole);
const check = hasGolden ? whole : whole.skip;
const at = folderOf(whole);

const dev = (name: string) => golden(`wholefile_dev/${name}`);
const stems = hasGolden
  ? Object.keys(JSON.parse(readFileSync(dev("manifest.json"), "utf8")).files)
  : [];

/** The weights of the networks after the command has merged a file into theirs. */
async function merged(stem: string, strength: number): Promise<Map<string, tf.Tensor>> {
  const weights = new Map<string, tf.Tensor>(), second = stem === "kohya_two_te";
  for (const base of ["base", ...(second ? ["base_te2"] : [])]) {
    const out = at(`${base}.safetensors`), style = `${dev(stem)}.safetensors:${strength}`;
    const { code, err } = await lowrank(
      ...["merge", `${dev(base)}.safetensors`, style, "-o", out, "--force", "--quiet"],
      ...(second ? ["--skip-missing"] : []),
    );
    assert.is(code, 0, err);
    for (const [key, tensor] of loadBase(out)) weights.set(key, tensor);
  }
  return weights;
}

for (const stem of stems) {
  check(`${stem} makes the networks answer as they were trained to`, async () => {
    const expected = loadTensors(dev("expected.safetensors"));
    const get = (key: string) => expected.get(key)!;
    const compare = (key: string, actual: tf.Tensor) => {
      const wanted = key.includes("ctx") ? get(key) : channelsLast(get(key));
      const error = distance(actual.dataSync(), wanted.dataSync());
      const limit = TOLERANCE[/oft/.test(stem) ? "rotation" : "value"];
      assert.ok(error <= limit, `${key} is off by ${error}`);
    };
    for (const [out, strength] of [["out", 1], ["out_mult", 0.6]] as const) {
      if (!expected.has(`${stem}/${out}`)) continue;
      const weights = await merged(stem, strength), embedded = get("emb") as tf.Tensor3D;
      const both = expected.has(`${stem}/ctx`);
      const context = both
        ? textEncoder(under("te", weights), embedded)
        : get("ctx_base") as tf.Tensor3D;
      if (both && strength === 1) {
        compare(`${stem}/ctx`, context);
        if (expected.has(`${stem}/ctx2`)) {
          compare(`${stem}/ctx2`, textEncoder(under("te2", weights), embedded));
        }
      }
      const x = channelsLast(get("x")), t = get("t") as tf.Tensor2D;
      compare(`${stem}/${out}`, unet(under("unet", weights), x, t, context));
    }
  });
}

whole.run();

const merging = suite("lowrank merge");
const ask = hasGolden ? merging : merging.skip;
const file = folderOf(merging);
const base = dev("base.safetensors"),
  style = dev("lora.safetensors"),
  other = dev("loha.safetensors");

ask("keeps a file that is there, unless forced", async () => {
  const out = file("there.safetensors");
  await writeFile(out, "old");
  const kept = await lowrank("merge", base, style, "-o", out);
  assert.is(kept.code, 1);
  assert.match(
    kept.err,
    /^Cannot write ".*" as what is there is kept: .* --force to replace it\n$/,
  );
  assert.is(await readFile(out, "utf8"), "old");
  assert.is((await lowrank("merge", base, style, "-o", out, "--force")).code, 0);
  assert.ok((await readFile(out)).length > 90_000);
});

ask("says what it would do, and does not", async () => {
  const out = file("dry.safetensors");
  const { code, out: told } = await lowrank(
    ...["merge", base, `${style}:0.8`, `${other}:-0.5`, "-o", out, "--dry-run"],
  );
  assert.is(code, 0);
  assert.is(
    told,
    "lora.safetensors at 0.8: 29 modules\nloha.safetensors at -0.5: 29 modules\n" +
      `${out} would be 91.2 KiB, 29 of 92 tensors changed\n`,
  );
  assert.not.ok((await readdir(file("."))).includes("dry.safetensors"));
});

ask("answers in JSON, with what was merged", async () => {
  const out = file("json.safetensors");
  const { out: told } = await lowrank("merge", base, `${style}:0.8`, "-o", out, "--json");
  const { output, tensors, changed, parts } = JSON.parse(told);
  assert.equal([output, tensors, changed.length], [out, 92, 29]);
  assert.equal(parts, [{ file: "lora.safetensors", strength: 0.8, modules: 29, missing: [] }]);
});

ask("has strengths for text encoders and blocks, for all adapters or each", async () => {
  const out = file("parts.safetensors"), words = ["-o", out, "--force", "--json"];
  const te = dev("kohya_lora_attn-mlp.safetensors");
  const changed = async (...more: string[]) => {
    const { out: told, err } = await lowrank("merge", base, te, style, ...words, ...more);
    assert.is(err, "");
    return JSON.parse(told).parts.map(({ modules }: { modules: number }) => modules);
  };
  const [all, unet] = await changed();
  assert.equal(await changed("--text-encoder", "0"), [all - 6, unet]);
  assert.equal(await changed("--text-encoder", "0", "--text-encoder", "-1"), [all - 6, unet]);
  const none = Array(26).fill("0").join(",");
  assert.equal(await changed("--blocks", none, "--blocks", "IN=0.5"), [0, unet]);
  const wrong = await lowrank("merge", base, style, ...words, "--blocks", "1,2,3");
  assert.is(wrong.code, 2);
  assert.match(wrong.err, /there are 26, 17, 20, 12 of them in a list: current count is 3/);
  const many = ["--text-encoder", "1", "--text-encoder", "2"];
  assert.is((await lowrank("merge", base, style, ...words, ...many)).code, 2);
});

ask("names what killed runs have left", async () => {
  const out = file("named.safetensors"), left = file(".0123.partial");
  await writeFile(left, new Uint8Array(2048));
  const { err, code } = await lowrank("merge", base, style, "-o", out);
  assert.is(code, 0);
  assert.match(err, `"${left}" (2.0 KiB)`);
  await rm(left);
});

ask("and unmerge gives the checkpoint back: bit for bit, or as near as it says", async () => {
  const out = file("merged.safetensors"), backup = file("backup.safetensors");
  const back = file("back.safetensors"), adapters = [`${style}:0.8`, `${other}:-0.5`];
  await lowrank("merge", base, ...adapters, "-o", out, "--backup", backup);
  const exact = await lowrank("unmerge", out, "--backup", backup, "-o", back);
  assert.match(exact.out, /bit for bit what it was/);
  assert.equal(await readFile(back), await readFile(base));
  const near = await lowrank("unmerge", out, ...adapters, "-o", back, "--force", "--json");
  const { exact: isExact, error } = JSON.parse(near.out);
  assert.equal([isExact, error.share < 1e-5], [false, true]);
  await using found = await open(back);
  assert.equal(found.metadata, {});
  assert.is((await lowrank("unmerge", out, "-o", back, "--force")).code, 2);
  const wrong = await lowrank("unmerge", out, style, "-o", back, "--force");
  assert.match(wrong.err, /the last that were merged go first/);
});

ask("takes colons in names", async () => {
  const named = file("a:b.safetensors"), out = file("colons.safetensors");
  await copyFile(style, named);
  assert.is((await lowrank("merge", base, `${named}:-1`, "-o", out)).code, 0);
  await using found = await open(out);
  assert.match(found.metadata["lowrank.merged"], '"file":"a:b.safetensors","strength":-1');
});

for (
  const [what, content] of [["a page", "<!DOCTYPE html>"], ["nothing", ""], [
    "a pickle",
    "PK\x03\x04",
  ]]
) {
  ask(`says in one sentence that ${what} is no adapter`, async () => {
    const wrong = file("wrong.safetensors"), out = file("wrong.out.safetensors");
    await writeFile(wrong, content);
    for (const words of [[base, wrong], [wrong, style]]) {
      const { code, err } = await lowrank("merge", ...words, "-o", out);
      assert.is(code, 1);
      assert.match(err, /^Cannot read the header of ".*wrong\.safetensors" as .*\n$/);
    }
    assert.not.ok((await readdir(file("."))).includes("wrong.out.safetensors"));
  });
}

merging.run();
