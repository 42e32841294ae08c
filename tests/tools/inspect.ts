import { readFile } from "node:fs/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Adapter } from "../../lib/adapter/adapter.ts";
import { save } from "../../lib/files/adapters.ts";
import type { Inspection } from "../../lib/files/inspect.ts";
import { leakless } from "../support/close.ts";
import { lowrank } from "../support/command.ts";
import { folderOf } from "../support/folder.ts";
import { trained } from "../support/trained.ts";

const inspect = suite("lowrank inspect");
leakless(inspect);
const at = folderOf(inspect), file = at("style.safetensors");

const adapters = () =>
  new Map<string, Adapter>([
    ["conv", trained(["lora", 3, { alpha: 1.5 }], [3, 3, 8, 16])],
    ["fc", trained(["loha", 3, {}], [24, 32])],
  ]);

inspect("tells what is in a file, for people and as JSON", async () => {
  const metadata = { ss_tag_frequency: '{"a":{"cat":2}}', sshs_model_hash: "old" };
  await save(file, adapters(), { dtype: "f16", metadata });
  const { code, out } = await lowrank("inspect", file);
  assert.is(code, 0);
  assert.match(out, /kohya, 2 modules \(1 lora, 1 loha\)/);
  assert.match(out, /rank 3, scale 0\.5 to 1/);
  assert.match(out, /tags: cat 2/);
  assert.match(out, /sshs_model_hash right/);
  assert.match(out, /3×3×8×16/);
  const found = JSON.parse((await lowrank("inspect", file, "--json", "--no-spectra")).out);
  assert.is(found.layers.length, 2);
  assert.ok(found.layers.every((layer: Record<string, unknown>) => !("spectrum" in layer)));
});

inspect(
  "tells as many singular values as are asked for, of layers that take long too",
  async () => {
    const many = at("many.safetensors");
    await save(many, new Map([...adapters(), ["wide", trained(["full", 0, {}], [240, 240])]]));
    const counts = async (...words: string[]) => {
      const { out } = await lowrank("inspect", many, "--json", ...words);
      const { layers } = JSON.parse(out) as Inspection;
      return Object.fromEntries(
        layers.map(({ name, spectrum }) => [name, spectrum?.largest.length]),
      );
    };
    assert.equal(await counts(), { conv: 3, fc: 9, wide: undefined });
    assert.equal(await counts("--spectra", "2"), { conv: 2, fc: 2, wide: 2 });
    assert.equal(await counts("--spectra", "all"), { conv: 3, fc: 9, wide: 240 });
    assert.match(
      (await lowrank("inspect", many)).out,
      /as those take long: 1; --spectra all/,
    );
    assert.is((await lowrank("inspect", many, "--spectra", "0")).code, 2);
  },
);

inspect("draws norms and spectra", async () => {
  const [norms, spectra] = [at("norms.svg"), at("spectra.svg")];
  const { code } = await lowrank("inspect", file, "--figure", norms, "--spectra-figure", spectra);
  assert.is(code, 0);
  assert.match(await readFile(norms, "utf8"), "<svg");
  assert.match(await readFile(spectra, "utf8"), "<svg");
});

inspect("says in one sentence what is no file of adapters", async () => {
  assert.is((await lowrank("inspect")).code, 2);
  const { code, err } = await lowrank("inspect", at("nothing.safetensors"));
  assert.is(code, 1);
  assert.match(err, /^Cannot open "[^\n]*\n$/);
});

inspect.run();
